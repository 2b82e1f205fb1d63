package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// shown is an ftpgate run that shows what it does: at a socket and at metricsAt, and in two logs of transfers.
type shown struct {
	*program
	host                             *lab.Host
	file, socket, transfers, xferlog string
}

// metricsAt is where TCP is answered on the gateway, in each lab's own network.
const metricsAt = "127.0.0.1:9121"

// oneForward is a forward of the file.
const oneForward = "[[forward]]\nname = %q\nlisten = %q\nserver = \"203.0.113.21\"\n"

// newShown runs ftpgate on a lab's gateway with forwards, in a directory of its own.
func newShown(t *testing.T, l *lab.Lab, forwards string) *shown {
	t.Helper()
	dir := shortDir(t)
	s := &shown{host: l.Gateway(), file: filepath.Join(dir, "ftpgate.toml"), socket: filepath.Join(dir, "s"),
		transfers: filepath.Join(dir, "transfers.json"), xferlog: filepath.Join(dir, "xferlog")}
	s.configure(t, forwards)
	s.program = start(t, s.host, "run", "-c", s.file).ready()
	return s
}

// configure writes the file.
func (s *shown) configure(t *testing.T, forwards string) {
	t.Helper()
	text := fmt.Sprintf("[admin]\nsocket = %q\nlisten = %q\n[log]\ntransfers = %q\nxferlog = %q\n", s.socket, metricsAt, s.transfers, s.xferlog)
	rewrite(t, s.file, text+forwards)
}

// newShownStage is that with a server in the hands of the test.
func newShownStage(t *testing.T, forwards string) (*stage, *shown) {
	t.Helper()
	l := labtest.New(t)
	st := &stage{Lab: l, t: t, dial: gateway4, control: listen(t, l.Server(), server4)}
	s := newShown(t, l, forwards)
	st.gate = s.program
	return st, s
}

// shortDir is a directory that everybody may pass, with a path that leaves room for a socket's name (unix(7):
// 107 bytes), which the name of a test may not.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ask asks the ftpgate that runs.
func (s *shown) ask(name string, args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	return finish(s.t, s.host, s.asking(name, args...))
}

// asking prepares a command that asks the ftpgate that runs.
func (s *shown) asking(name string, args ...string) *exec.Cmd {
	return command(append([]string{name, "--socket", s.socket}, args...)...)
}

// answer is ask that must succeed.
func (s *shown) answer(command string, args ...string) string {
	s.t.Helper()
	out, errs, status := s.ask(command, args...)
	if status != 0 || errs != "" {
		s.t.Fatalf("ftpgate %s %s: got exit status %d, %q; want 0", command, strings.Join(args, " "), status, errs)
	}
	return out
}

// seen is a session as JSON has it. Its names are those of docs/api.md.
type seen struct {
	ID, Forward, Tracking, Client, Gateway, Server, User string
	Since, Ended                                         time.Time
	State, Mode, Path                                    string
	TLS                                                  legs
	Transfer                                             *moved
	Totals                                               totals
	Refused                                              int
	Verdict                                              struct{ Code, Text string }
}

type legs struct{ Client, Server string }

type totals struct {
	Transfers, Failed int
	Up                int64 `json:"bytes_up"`
	Down              int64 `json:"bytes_down"`
}

// moved is a transfer, of a session or in the log of transfers.
type moved struct {
	Session, Forward, Client, Server, User, Command, Direction, File, Mode, Path string
	TLS                                                                          legs
	Began, Connected, Ended                                                      time.Time
	Bytes, Rate                                                                  int64
	Complete                                                                     bool
	Verdict                                                                      string
}

// decode reads JSON.
func decode(t *testing.T, text string, value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), value); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
}

// sessions asks for sessions.
func (s *shown) sessions(args ...string) []seen {
	s.t.Helper()
	var list struct{ Sessions []seen }
	decode(s.t, s.answer("sessions", append(args, "--json")...), &list)
	return list.Sessions
}

// status is the gateway's, as far as these tests read it.
type status struct {
	PID      int
	File     string
	Forwards []struct {
		Name, Tracking  string
		Path            string `json:"data_path"`
		Sessions        int
		Total           int `json:"sessions_total"`
		Transfers       int
		Failed, Clients int
		Refused         int
		Up              int64 `json:"bytes_up"`
		Down            int64 `json:"bytes_down"`
	}
	Reload *struct {
		OK    bool
		Error string
	} `json:"last_reload"`
	Certificates []struct {
		Forward, File, Subject string
		Days                   int `json:"days_left"`
	}
	Warnings []string
}

func (s *shown) status() (all status) {
	s.t.Helper()
	decode(s.t, s.answer("status", "--json"), &all)
	return all
}

// until asks again and again until something holds. What is asked for has no event that could be waited for.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	for !holds() {
		select {
		case <-retry.C:
		case <-deadline:
			t.Fatalf("within %s: want %s", patience, what)
		}
	}
}

// awaitSession asks until one session is as it is wanted, and returns it.
func (s *shown) awaitSession(what string, as func(seen) bool, args ...string) (found seen) {
	s.t.Helper()
	var all []seen
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("sessions, when %s was awaited: %+v", what, all)
		}
	})
	until(s.t, what, func() bool {
		all = s.sessions(args...)
		at := slices.IndexFunc(all, as)
		if at >= 0 {
			found = all[at]
		}
		return at >= 0
	})
	return found
}

// lines reads the log of transfers: each line must be whole.
func lines(t *testing.T, files ...string) (all []moved) {
	t.Helper()
	for _, file := range files {
		for line := range strings.Lines(contents(t, file)) {
			var one moved
			decode(t, line, &one)
			if one.Session == "" || one.Ended.IsZero() || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s: got the line %q; want a session and an end in it", file, line)
			}
			all = append(all, one)
		}
	}
	return all
}

// contents reads a file.
func contents(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// as has a command run as a user without privilege, who need not be able to find the program.
func as(t *testing.T, cmd *exec.Cmd, uid uint32) *exec.Cmd {
	t.Helper()
	if singleUser(t) {
		t.Skip("this user namespace has no other user than root: run as root to test with another one")
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	return cmd
}
