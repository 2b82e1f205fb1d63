package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// Fail2ban is a fail2ban with the filter, the jail and the action of ftpgate's packaging. It reads a log
// file.
type Fail2ban struct {
	t      *testing.T
	host   *lab.Host
	config string // its directory
	python string
	bin    string // the directory of its programs
	env    []string
}

// packaging is the directory of the repository for other programs: tests run in their package's directory.
var packaging = filepath.Join("..", "..", "..", "packaging")

// NewFail2ban prepares fail2ban on the gateway of an ftpgate. Without fail2ban the test is skipped.
func NewFail2ban(t *testing.T, gateway *harness.AdminGateway, logFile string) *Fail2ban {
	t.Helper()
	server := findProgram(t, "fail2ban-server")
	f := &Fail2ban{t: t, host: gateway.Host, config: t.TempDir(), python: pythonWith(t, "ssl"),
		bin: filepath.Dir(server)}
	root := filepath.Join(f.bin, "..", "..")
	f.env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "usr/lib/python3/dist-packages"),
		"PYTHONDONTWRITEBYTECODE=1")
	for _, file := range []string{"filter.d", "jail.d", "action.d"} {
		from := filepath.Join(packaging, "fail2ban", file)
		if err := os.CopyFS(filepath.Join(f.config, file), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, format string, args ...any) {
		harness.OverwriteFile(t, filepath.Join(f.config, name), fmt.Sprintf(format, args...))
	}
	write("fail2ban.conf", "[Definition]\nloglevel = INFO\nlogtarget = STDOUT\nsyslogsocket = auto\n"+
		"socket = %s/s\npidfile = %s/pid\ndbfile = None\ndbpurgeage = 1d\ndbmaxmatches = 10\n", f.config,
		f.config)
	write("jail.conf", "[DEFAULT]\n")
	ftpgate := gateway.Command("")
	write("action.d/banned.conf", "[Definition]\nactionban = echo '<ip>' >>%s/banned\n", f.config)
	write("jail.local", "[ftpgate]\nbackend = polling\nlogpath = %s\naction = ftpgate[ftpgate=%q, "+
		"options=%q]\n banned\n",
		logFile, "env "+ftpgate.Env[len(ftpgate.Env)-2]+" "+executable(t), "--socket="+gateway.Socket)
	return f
}

// executable returns the path of the test binary, which is ftpgate, too.
func executable(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *Fail2ban) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(f.python, append([]string{filepath.Join(f.bin, name)}, args...)...)
	cmd.Env = f.env
	return cmd
}

// Start runs the server until the test ends.
func (f *Fail2ban) Start() {
	f.t.Helper()
	var log strings.Builder
	cmd := f.command("fail2ban-server", "-f", "-c", f.config, "start")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := f.host.Start(cmd); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended
		_ = cmd.Wait()         // by the signal
		if f.t.Failed() {
			f.t.Logf("log of fail2ban:\n%s", log.String())
		}
	})
}

// Unban has fail2ban lift a ban, once it has carried that out: before the end of its first ban it lifts none.
func (f *Fail2ban) Unban(address string) {
	f.t.Helper()
	harness.Await(f.t, "the end of fail2ban's ban of "+address, func() bool {
		banned, _ := os.ReadFile(filepath.Join(f.config, "banned"))
		return slices.Contains(strings.Fields(string(banned)), address)
	})
	if out, err := f.command("fail2ban-client", "-c", f.config, "unban",
		address).CombinedOutput(); err != nil {
		f.t.Fatalf("fail2ban-client unban: %v\n%s", err, out)
	}
}

// Matches returns the addresses that the filter finds in a log file, in the order of the lines.
func (f *Fail2ban) Matches(logFile, mode string) []string {
	f.t.Helper()
	filter := filepath.Join(f.config, "filter.d", "ftpgate.conf") + "[mode=" + mode + "]"
	out, err := f.command("fail2ban-regex", "-c", f.config, "-o", "<ip>", logFile, filter).Output()
	if err != nil && len(out) == 0 {
		f.t.Fatalf("fail2ban-regex: %v\n%s", err, out)
	}
	return strings.Fields(string(out))
}
