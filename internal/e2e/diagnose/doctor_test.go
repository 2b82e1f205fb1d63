package diagnose

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// writeConfig writes a configuration file with one forward, and more keys and tables. A listen or
// server among keys replaces the default.
func writeConfig(t *testing.T, keys ...string) string {
	t.Helper()
	own := keys
	if table := slices.IndexFunc(keys, func(k string) bool { return strings.HasPrefix(k, "[") }); table >= 0 {
		own = keys[:table]
	}
	lines := []string{"[[forward]]", `name = "archive"`}
	for _, implied := range []string{`listen = "192.168.5.2:2121"`, `server = "203.0.113.21"`} {
		key, _, _ := strings.Cut(implied, "=")
		if !slices.ContainsFunc(own, func(k string) bool { return strings.HasPrefix(k, key) }) {
			lines = append(lines, implied)
		}
	}
	return harness.WriteFile(t, "ftpgate.toml", strings.Join(append(lines, keys...), "\n")+"\n")
}

// finding is a finding in JSON.
type finding struct{ Code, Level, Forward, Text, Remedy string }

// doctorReport is what doctor prints with --json.
type doctorReport struct {
	Findings []finding
	Worst    string
	t        *testing.T
	text     string
	status   int
}

// runDoctor runs doctor with --json on the gateway. stderr must be empty.
func runDoctor(t *testing.T, h *lab.Host, args ...string) *doctorReport {
	t.Helper()
	return runDoctorCommand(t, h, harness.Command(append([]string{"doctor", "--json"}, args...)...))
}

// runDoctorCommand is runDoctor with a prepared command.
func runDoctorCommand(t *testing.T, h *lab.Host, cmd *exec.Cmd) *doctorReport {
	t.Helper()
	stdout, stderr, status := harness.RunCommand(t, h, cmd)
	d := &doctorReport{t: t, text: stdout, status: status}
	if err := json.Unmarshal([]byte(stdout), d); err != nil || stderr != "" {
		t.Fatalf("got %q, error %v, on stderr %q; want JSON", stdout, err, stderr)
	}
	return d
}

// wantFinding expects a finding with parts of its text and its remedy. If remedy is "", there must be
// none.
func (d *doctorReport) wantFinding(code, level, text, remedy string) {
	d.t.Helper()
	for _, f := range d.Findings {
		if f.Code == code && f.Level == level && strings.Contains(f.Text, text) &&
			strings.Contains(f.Remedy, remedy) && (remedy != "" || f.Remedy == "") {
			return
		}
	}
	d.t.Errorf("want %s %s %q, remedy %q, among\n%s", level, code, text, remedy,
		strings.ReplaceAll(d.text, "},", "},\n"))
}

// wantNothingWorse expects an exit status, and no finding of this level or worse except these codes.
func (d *doctorReport) wantNothingWorse(status int, level string, codes ...string) {
	d.t.Helper()
	if d.status != status {
		d.t.Errorf("got exit status %d; want %d", d.status, status)
	}
	order := []string{"ok", "info", "warning", "fault"}
	for _, f := range d.Findings {
		if slices.Index(order, f.Level) >= slices.Index(order, level) && !slices.Contains(codes, f.Code) {
			d.t.Errorf("got %+v; want nothing of the kind but %q", f, codes)
		}
	}
}

func TestDoctorSound(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	file := writeConfig(t)
	d := runDoctor(t, l.Gateway(), "-c", file, "--active")
	d.wantNothingWorse(0, "warning")
	if d.Worst != "info" {
		t.Errorf("got worst %q; want info", d.Worst)
	}
	d.wantFinding("server_pasv", "ok", "", "")
	d.wantFinding("server_epsv", "ok", "", "")
	d.wantFinding("server_active_port", "ok", "", "")
	d.wantFinding("server_active_eprt", "ok", "", "")
	d.wantFinding("ip_forward", "info", "ftpgate switches it on when it starts", "net.ipv4.ip_forward=1")
	d.wantFinding("route", "ok", "203.0.113.21 is reached through wan0", "")
	d.wantFinding("listen_taken", "ok", "no other program listens at 192.168.5.2:2121", "")

	stdout, stderr, status := harness.Run(t, l.Gateway(), "doctor", "-c", file, "archive")
	if status != 0 || stderr != "" || !strings.HasSuffix(stdout, "\nnothing is wrong\n") {
		t.Errorf("got exit status %d, %q, on stderr %q; want it said that nothing is wrong", status, stdout,
			stderr)
	}
	harness.WantContains(t, stdout, "this host\n",
		"forward archive: 192.168.5.2:2121 leads to 203.0.113.21:21\n", "  note     IPv4 forwarding is off",
		"           remedy: ")
	stdout, _, status = harness.Run(t, l.Gateway(), "doctor", "--all", harness.Gateway4, "203.0.113.21")
	if status != 0 {
		t.Errorf("without a file got exit status %d; want 0:\n%s", status, stdout)
	}
	harness.WantContains(t, stdout, "  OK       the server greets: ", "nothing is wrong")
}

// doctor changes nothing: not the gateway, not the server, not the files. It does not make the
// certificates that run would make.
func TestDoctorChangesNothing(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft", "sysctl", "find")
	l := labtest.New(t)
	s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	harness.Shell(t, l.Gateway(), "nft add table inet fw; nft add chain inet fw f '{ type filter hook "+
		"forward priority 0; policy drop; }'")
	dir := t.TempDir()
	file := writeConfig(t, `tracking = "proxy"`, "[forward.tls]", `client = "optional"`,
		`cert = "self-signed"`, "[[forward]]",
		`name = "kernel"`, `listen = "192.168.5.2:2122"`, `server = "203.0.113.21"`, `tracking = "kernel"`)
	state := func() string {
		files := harness.Shell(t, l.Gateway(),
			"find %s %s %s -printf '%%p %%s %%m %%T@\\n' | sort; if test -e /proc/modules; then cut -d' ' "+
				"-f1 /proc/modules; fi", dir, filepath.Dir(file), s.Root)
		return harness.Shell(t, l.Gateway(), harness.HostState) + harness.Shell(t, l.Server(),
			harness.HostState) + files
	}
	before := state()
	for _, args := range [][]string{{"--active"}, {"--no-try"}} {
		cmd := harness.Command(append([]string{"doctor", "--json", "-c", file}, args...)...)
		cmd.Env = append(cmd.Env, "STATE_DIRECTORY="+dir, "HOME="+dir, "XDG_STATE_HOME="+dir)
		d := runDoctorCommand(t, l.Gateway(), cmd)
		d.wantNothingWorse(0, "fault")
		d.wantFinding("tls_cert", "warning", "the certificate is self-signed",
			"use a certificate from an authority")
	}
	was := map[string]bool{}
	for line := range strings.Lines(before) {
		was[line] = true
	}
	after := state()
	for line := range strings.Lines(after) {
		if !was[line] {
			t.Errorf("got changed: %s", line)
		}
	}
	if got, want := strings.Count(after, "\n"), strings.Count(before, "\n"); got != want {
		t.Errorf("got %d lines of state; want %d", got, want)
	}
}

// What a running ftpgate holds is no fault, for root and for an ordinary user.
func TestDoctorBesideRun(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	for _, data := range []string{"auto", "relay"} {
		t.Run(data, func(t *testing.T) {
			file := writeConfig(t, fmt.Sprintf("data = %q", data), `passive_ports = "50000-50003"`)
			harness.Start(t, l.Gateway(), "run", "-c", file).AwaitReady()
			c, err := l.Client().Dial(t.Context(), "tcp", harness.Gateway4)
			if err != nil {
				t.Fatal(err)
			}
			w := harness.NewControlConn(t, "the client", c)
			w.Expect("220 ")
			for _, step := range [][2]string{{"USER anonymous", "331 "}, {"PASS a@example.com", "230 "},
				{"PASV", "227 "}} {
				w.Send("%s", step[0])
				w.Expect(step[1])
			}
			d := runDoctor(t, l.Gateway(), "-c", file)
			d.wantNothingWorse(0, "warning")
			d.wantFinding("listen_taken", "ok", "ftpgate listens at 192.168.5.2:2121", "")
			d.wantFinding("passive_ports", "ok", "", "")
			d = runDoctorCommand(t, l.Gateway(), harness.UnprivilegedCommand(t, "doctor", "--json", "-c",
				file))
			d.wantNothingWorse(0, "warning")
			d.wantFinding("listen_taken", "ok", "ftpgate listens at 192.168.5.2:2121", "")
			d.wantFinding("not_read", "info", "what other ftpgates publish", "run ftpgate doctor as root")
		})
	}
}

func TestDoctorOrdinaryUser(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	d := runDoctorCommand(t, l.Gateway(), harness.UnprivilegedCommand(t, "doctor", "--json", "-c",
		writeConfig(t)))
	d.wantNothingWorse(0, "warning", "capabilities")
	d.wantFinding("capabilities", "warning", "ftpgate itself relays all data", "run it as root")
	d.wantFinding("not_read", "info",
		"who may refuse forwarded packets, could not be read: this process lacks CAP_NET_ADMIN",
		"run ftpgate doctor as root")
	d.wantFinding("server_pasv", "ok", "", "")
}

// Ctrl-C ends a try that waits, and doctor prints what it has found so far.
func TestDoctorInterrupted(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	server := harness.Listen(t, l.Server(), harness.Server4) // it never greets
	cmd := harness.Command("doctor", "-c", writeConfig(t))
	var stdout strings.Builder
	cmd.Stdout = &stdout
	p := harness.StartCommand(t, l.Gateway(), cmd)
	harness.Accept(t, server)
	p.Signal(syscall.SIGINT)
	if got := p.Wait(); got != 1 {
		t.Errorf("got exit status %d; want 1", got)
	}
	harness.WantContains(t, p.Log(), "ftpgate: interrupted: not everything has been tried\n")
	harness.WantContains(t, stdout.String(), "forward archive: ",
		"the check was interrupted or timed out; not everything was tested")
}

// doctor tries both addresses of a name. A dead one is no fault as long as the other works.
func TestDoctorTwoAddresses(t *testing.T) {
	l := labtest.New(t)
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	hosts := harness.WriteFile(t, "hosts", "203.0.113.21 ftp.lab.example\n2001:db8:113::21 ftp.lab.example\n")
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/hosts", 0) })
	d := runDoctor(t, l.Gateway(), "-c", writeConfig(t, `listen = ":2123"`, `server = "ftp.lab.example"`))
	d.wantFinding("server_connect", "warning", "[2001:db8:113::21]:21 refused the connection",
		"start the FTP server there")
	d.wantFinding("server_pasv", "ok", "203.0.113.21:21: ", "")
}
