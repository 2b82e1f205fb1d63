package harness

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/cli"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// AdminGateway is a running ftpgate with an admin socket, metrics over TCP, a transfer log and an
// xferlog.
type AdminGateway struct {
	*Program
	Host                                     *lab.Host
	ConfigFile, Socket, TransferLog, Xferlog string
}

// MetricsAddress is where the gateway serves its API and metrics over TCP. Each lab has a loopback of
// its own.
const MetricsAddress = "127.0.0.1:9121"

// ForwardConfig is the format of a forward in the configuration file: its name and its listen address.
const ForwardConfig = "[[forward]]\nname = %q\nlisten = %q\nserver = \"203.0.113.21\"\n"

// StartAdminGateway runs ftpgate with these forwards on a lab's gateway. Its files are in a directory
// of their own.
func StartAdminGateway(t *testing.T, l *lab.Lab, forwards string) *AdminGateway {
	t.Helper()
	dir := ShortDir(t)
	s := &AdminGateway{Host: l.Gateway(), ConfigFile: filepath.Join(dir, "ftpgate.toml"),
		Socket:      filepath.Join(dir, "s"),
		TransferLog: filepath.Join(dir, "transfers.json"), Xferlog: filepath.Join(dir, "xferlog")}
	s.WriteConfig(t, forwards)
	s.Start(t)
	return s
}

// Start runs ftpgate, also again after it has ended. Its state is in the directory of its files.
func (s *AdminGateway) Start(t *testing.T) {
	t.Helper()
	cmd := Command("run", "-c", s.ConfigFile)
	cmd.Env = append(cmd.Env, "STATE_DIRECTORY="+filepath.Join(filepath.Dir(s.ConfigFile), "state"))
	s.Program = StartCommand(t, s.Host, cmd).AwaitReady()
}

// WriteConfig writes the configuration file, with these forwards. Only clients connect to their
// servers: tests script what those see.
func (s *AdminGateway) WriteConfig(t *testing.T, forwards string) {
	t.Helper()
	text := fmt.Sprintf("health = \"off\"\n[admin]\nsocket = %q\nlisten = %q\n"+
		"[log]\ntransfers = %q\nxferlog = %q\n", s.Socket, MetricsAddress, s.TransferLog, s.Xferlog)
	OverwriteFile(t, s.ConfigFile, text+forwards)
}

// NewAdminTestbed is StartAdminGateway with a scripted server.
func NewAdminTestbed(t *testing.T, forwards string) (*Testbed, *AdminGateway) {
	t.Helper()
	l := labtest.New(t)
	st := &Testbed{Lab: l, T: t, Address: Gateway4, Listener: Listen(t, l.Server(), Server4)}
	s := StartAdminGateway(t, l, forwards)
	st.Program = s.Program
	return st, s
}

// Run runs a command against the admin socket. It returns what the command prints and its exit status.
// The command runs in this process: tests poll with it, and to start a process with the race detector
// takes longer than all that the command does.
func (s *AdminGateway) Run(name string, args ...string) (stdout, stderr string, status int) {
	var out, errs strings.Builder
	status = cli.Main(s.args(name, args), strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), status
}

func (s *AdminGateway) args(name string, args []string) []string {
	return append([]string{name, "--socket", s.Socket}, args...)
}

// Command prepares a command that uses the admin socket, as a process of its own.
func (s *AdminGateway) Command(name string, args ...string) *exec.Cmd {
	return Command(s.args(name, args)...)
}

// Output runs a command against the admin socket and returns what it prints. The command must succeed.
func (s *AdminGateway) Output(command string, args ...string) string {
	s.T.Helper()
	out, errs, status := s.Run(command, args...)
	if status != 0 || errs != "" {
		s.T.Fatalf("ftpgate %s %s: got exit status %d, %q; want 0", command, strings.Join(args, " "), status,
			errs)
	}
	return out
}

// Sessions returns what ftpgate sessions prints with --json.
func (s *AdminGateway) Sessions(args ...string) []SessionInfo {
	s.T.Helper()
	var list struct{ Sessions []SessionInfo }
	DecodeJSON(s.T, s.Output("sessions", append(args, "--json")...), &list)
	return list.Sessions
}

// Status returns what ftpgate status prints with --json.
func (s *AdminGateway) Status() (all StatusInfo) {
	s.T.Helper()
	DecodeJSON(s.T, s.Output("status", "--json"), &all)
	return all
}

// AwaitSession waits until a session matches, and returns it. args are those of ftpgate sessions.
func (s *AdminGateway) AwaitSession(what string, as func(SessionInfo) bool,
	args ...string) (found SessionInfo) {
	s.T.Helper()
	var all []SessionInfo
	s.T.Cleanup(func() {
		if s.T.Failed() {
			s.T.Logf("sessions, when %s was awaited: %+v", what, all)
		}
	})
	Await(s.T, what, func() bool {
		all = s.Sessions(args...)
		at := slices.IndexFunc(all, as)
		if at >= 0 {
			found = all[at]
		}
		return at >= 0
	})
	return found
}
