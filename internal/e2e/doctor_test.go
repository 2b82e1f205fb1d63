package e2e

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// archive is a file with one forward. Keys are added to it, and tables behind it; a listen or server among the
// keys takes the place of its own.
func archive(t *testing.T, keys ...string) string {
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
	return writeFile(t, "ftpgate.toml", strings.Join(append(lines, keys...), "\n")+"\n")
}

// finding is one of them.
type finding struct{ Code, Level, Forward, Text, Remedy string }

// diagnosis is what doctor says with --json.
type diagnosis struct {
	Findings []finding
	Worst    string
	t        *testing.T
	text     string
	status   int
}

// diagnose runs doctor with --json on the gateway; stderr must be empty.
func diagnose(t *testing.T, h *lab.Host, args ...string) *diagnosis {
	t.Helper()
	return read(t, h, command(append([]string{"doctor", "--json"}, args...)...))
}

// read is diagnose with a command that is prepared.
func read(t *testing.T, h *lab.Host, cmd *exec.Cmd) *diagnosis {
	t.Helper()
	stdout, stderr, status := finish(t, h, cmd)
	d := &diagnosis{t: t, text: stdout, status: status}
	if err := json.Unmarshal([]byte(stdout), d); err != nil || stderr != "" {
		t.Fatalf("got %q, error %v, on stderr %q; want JSON", stdout, err, stderr)
	}
	return d
}

// has wants a finding, with parts of its text and remedy; of "", no remedy.
func (d *diagnosis) has(code, level, text, remedy string) {
	d.t.Helper()
	for _, f := range d.Findings {
		if f.Code == code && f.Level == level && strings.Contains(f.Text, text) && strings.Contains(f.Remedy, remedy) && (remedy != "" || f.Remedy == "") {
			return
		}
	}
	d.t.Errorf("want %s %s %q, remedy %q, among\n%s", level, code, text, remedy, strings.ReplaceAll(d.text, "},", "},\n"))
}

// wants wants an exit status, and that nothing is as grave as a level or graver but findings of codes.
func (d *diagnosis) wants(status int, level string, codes ...string) {
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
	l := labtest.New(t)
	vsftpd(t, l.Server(), site4.server)
	file := archive(t)
	d := diagnose(t, l.Gateway(), "-c", file, "--active")
	d.wants(0, "warning")
	if d.Worst != "info" {
		t.Errorf("got worst %q; want info", d.Worst)
	}
	d.has("server_pasv", "ok", "", "")
	d.has("server_epsv", "ok", "", "")
	d.has("server_active_port", "ok", "", "")
	d.has("server_active_eprt", "ok", "", "")
	d.has("ip_forward", "info", "ftpgate switches it on when it starts", "net.ipv4.ip_forward=1")
	d.has("route", "ok", "203.0.113.21 is reached through wan0", "")
	d.has("listen_taken", "ok", "nobody else listens at 192.168.5.2:2121", "")

	stdout, stderr, status := run(t, l.Gateway(), "doctor", "-c", file, "archive")
	if status != 0 || stderr != "" || !strings.HasSuffix(stdout, "\nnothing is wrong\n") {
		t.Errorf("got exit status %d, %q, on stderr %q; want it said that nothing is wrong", status, stdout, stderr)
	}
	wantLines(t, stdout, "this host\n", "forward archive: 192.168.5.2:2121 leads to 203.0.113.21:21\n", "  note     IPv4 forwarding is off", "           remedy: ")
	stdout, _, status = run(t, l.Gateway(), "doctor", "--all", gateway4, "203.0.113.21")
	if status != 0 {
		t.Errorf("without a file got exit status %d; want 0:\n%s", status, stdout)
	}
	wantLines(t, stdout, "  sound    the server greets: ", "nothing is wrong")
}

// What is looked at is left as it was: on the gateway, on the server, in files, and certificates that only
// run makes are not made.
func TestDoctorChangesNothing(t *testing.T) {
	labtest.Need(t, "nft", "sysctl", "find")
	l := labtest.New(t)
	s := vsftpd(t, l.Server(), site4.server)
	sh(t, l.Gateway(), "nft add table inet fw; nft add chain inet fw f '{ type filter hook forward priority 0; policy drop; }'")
	dir := t.TempDir()
	file := archive(t, `tracking = "proxy"`, "[forward.tls]", `client = "optional"`, `cert = "self-signed"`, "[[forward]]",
		`name = "kernel"`, `listen = "192.168.5.2:2122"`, `server = "203.0.113.21"`, `tracking = "kernel"`)
	state := func() string {
		files := sh(t, l.Gateway(), "find %s %s %s -printf '%%p %%s %%m %%T@\\n' | sort; if test -e /proc/modules; then cut -d' ' -f1 /proc/modules; fi", dir, filepath.Dir(file), s.root)
		return sh(t, l.Gateway(), hostState) + sh(t, l.Server(), hostState) + files
	}
	before := state()
	for _, args := range [][]string{{"--active"}, {"--no-try"}} {
		cmd := command(append([]string{"doctor", "--json", "-c", file}, args...)...)
		cmd.Env = append(cmd.Env, "STATE_DIRECTORY="+dir, "HOME="+dir, "XDG_STATE_HOME="+dir)
		d := read(t, l.Gateway(), cmd)
		d.wants(0, "fault")
		d.has("tls_cert", "warning", "the certificate is self-signed", "have an authority sign one")
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

// Beside a running ftpgate: what that one holds is no fault, for root and for an ordinary user.
func TestDoctorBesideRun(t *testing.T) {
	l := labtest.New(t)
	vsftpd(t, l.Server(), site4.server)
	for _, data := range []string{"auto", "relay"} {
		t.Run(data, func(t *testing.T) {
			file := archive(t, fmt.Sprintf("data = %q", data), `passive_ports = "50000-50003"`)
			start(t, l.Gateway(), "run", "-c", file).ready()
			c, err := l.Client().Dial(t.Context(), "tcp", gateway4)
			if err != nil {
				t.Fatal(err)
			}
			w := newWire(t, "the client", c)
			w.hear("220 ")
			for _, step := range [][2]string{{"USER anonymous", "331 "}, {"PASS a@example.com", "230 "}, {"PASV", "227 "}} {
				w.say("%s", step[0])
				w.hear(step[1])
			}
			d := diagnose(t, l.Gateway(), "-c", file)
			d.wants(0, "warning")
			d.has("listen_taken", "ok", "ftpgate listens at 192.168.5.2:2121", "")
			d.has("passive_ports", "ok", "", "")
			d = read(t, l.Gateway(), unprivileged(t, "doctor", "--json", "-c", file))
			d.wants(0, "warning")
			d.has("listen_taken", "ok", "ftpgate listens at 192.168.5.2:2121", "")
			d.has("not_read", "info", "what other ftpgates publish", "run ftpgate doctor as root")
		})
	}
}

func TestDoctorOrdinaryUser(t *testing.T) {
	l := labtest.New(t)
	vsftpd(t, l.Server(), site4.server)
	d := read(t, l.Gateway(), unprivileged(t, "doctor", "--json", "-c", archive(t)))
	d.wants(0, "warning", "capabilities")
	d.has("capabilities", "warning", "ftpgate itself relays all data", "run it as root")
	d.has("not_read", "info", "who may refuse forwarded packets, could not be read: this process lacks CAP_NET_ADMIN", "run ftpgate doctor as root")
	d.has("server_pasv", "ok", "", "")
}

// provoked is something that is wrong, and what doctor must say of it.
type provoked struct {
	provoke      func(*testing.T, *lab.Lab) []string // returns keys of the forward
	args         []string
	code, level  string
	text, remedy string
}

// onGateway and onServer provoke with shell commands; vsftpd runs at the server.
func onGateway(line string, keys ...string) func(*testing.T, *lab.Lab) []string {
	return func(t *testing.T, l *lab.Lab) []string {
		vsftpd(t, l.Server(), site4.server, passiveSettings...)
		sh(t, l.Gateway(), "%s", line)
		return keys
	}
}

func onServer(line string, keys ...string) func(*testing.T, *lab.Lab) []string {
	return func(t *testing.T, l *lab.Lab) []string {
		vsftpd(t, l.Server(), site4.server, passiveSettings...)
		sh(t, l.Server(), "%s", line)
		return keys
	}
}

var passiveSettings = []string{fmt.Sprintf("pasv_min_port=%d", passiveFrom), fmt.Sprintf("pasv_max_port=%d", passiveTo)}

func serverDown(*testing.T, *lab.Lab) []string { return nil }

func wrongPort(t *testing.T, l *lab.Lab) []string {
	vsftpd(t, l.Server(), site4.server)
	ssh := listen(t, l.Server(), "203.0.113.21:22")
	go func() {
		for {
			c, err := ssh.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "SSH-2.0-OpenSSH_9.2\r\n")
			c.Close()
		}
	}()
	return []string{`server = "203.0.113.21:22"`}
}

// expired has the server's certificate be over.
func expired(t *testing.T, l *lab.Lab) []string {
	a := newAuthority(t)
	pair := a.server(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(0, 0, -9), time.Now().AddDate(0, 0, -2)
	})
	secureVSFTPd(t, l.Server(), site4.server, terms{pair: pair})
	return []string{"[forward.tls]", `server = "required"`, fmt.Sprintf("ca = %q", a.ca)}
}

// gatewayExpired has the gateway's certificate be over, which is for its own clients to refuse.
func gatewayExpired(t *testing.T, l *lab.Lab) []string {
	vsftpd(t, l.Server(), site4.server)
	pair := newAuthority(t).gateway(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(0, 0, -9), time.Now().AddDate(0, 0, -2)
	})
	return []string{"[forward.tls]", `client = "optional"`, fmt.Sprintf("cert = %q", pair.cert), fmt.Sprintf("key = %q", pair.key)}
}

// portsTaken has other programs hold all passive ports.
func portsTaken(t *testing.T, l *lab.Lab) []string {
	vsftpd(t, l.Server(), site4.server)
	for port := 50000; port < 50004; port++ {
		listen(t, l.Gateway(), fmt.Sprintf("192.168.5.2:%d", port))
	}
	return []string{`passive_ports = "50000-50003"`}
}

func listenTaken(t *testing.T, l *lab.Lab) []string {
	vsftpd(t, l.Server(), site4.server)
	listen(t, l.Gateway(), gateway4)
	return nil
}

func TestDoctorFinds(t *testing.T) {
	labtest.Need(t, "nft", "ip", "sysctl")
	const policyDrop = `nft add table inet fw; nft add chain inet fw f '{ type filter hook forward priority 0; policy drop; }'`
	for name, tt := range map[string]provoked{
		"server down": {serverDown, nil, "server_connect", "fault",
			"203.0.113.21:21 refused the connection", "start the FTP server there"},
		"server silent": {onServer("nft add table inet x; nft add chain inet x i '{ type filter hook input priority 0; policy drop; }'"), []string{"--try-time", "3s"},
			"server_connect", "fault", "no answer from 203.0.113.21:21", "whether the host is up"},
		"wrong port": {wrongPort, nil, "server_greeting", "fault",
			"what listens at 203.0.113.21:22 speaks SSH (SFTP is no FTP)", "correct the port in `server`"},
		"passive ports rejected by the server": {
			onServer("nft add table inet x; nft add chain inet x i '{ type filter hook input priority 0; }'; nft add rule inet x i tcp dport 50000-50100 reject with tcp reset"), nil,
			"server_pasv", "fault", "the passive port that PASV gave cannot be connected to", "whether a firewall rejects the server's passive ports"},
		"passive ports dropped by the gateway": {
			onGateway("nft add table inet x; nft add chain inet x o '{ type filter hook output priority 0; }'; nft add rule inet x o tcp dport 50000-50100 drop"), []string{"--try-time", "12s"},
			"server_epsv", "fault", "the passive port that EPSV gave cannot be connected to", "let the server's passive ports through"},
		"passive ports taken": {portsTaken, nil, "passive_ports", "warning",
			"other programs listen within the passive ports 50000-50003: 50000 (", "choose other passive_ports"},
		"listen taken": {listenTaken, nil, "listen_taken", "fault",
			fmt.Sprintf("listen %s is taken by ", gateway4), "choose another port"},
		"server's certificate expired": {expired, nil, "server_certificate", "fault",
			"the server's certificate has expired on ", "have it renewed on the server"},
		"gateway's certificate expired": {gatewayExpired, nil, "tls_cert", "warning",
			"has expired on ", "have it renewed"},
		"no such name": {func(*testing.T, *lab.Lab) []string { return []string{`server = "nowhere.invalid"`} }, nil,
			"name_resolution", "fault", `server name "nowhere.invalid" cannot be resolved`, "getent hosts nowhere.invalid"},
		"policy drop": {onGateway(policyDrop), nil, "host", "warning",
			"chain f of table inet fw refuses what it does not know", "nft insert rule inet fw f ct status dnat accept"},
		"MTU": {onGateway("ip link set wan0 mtu 1400"), nil, "mtu", "warning",
			"the way to 203.0.113.21 takes packets of 1400 bytes at most", "clamp the MSS"},
		"no route": {onGateway("ip route del 203.0.113.0/24"), nil, "route", "fault",
			"203.0.113.21 cannot be reached", "ip route get 203.0.113.21"},
		"foreign address": {func(t *testing.T, l *lab.Lab) []string {
			vsftpd(t, l.Server(), site4.server)
			return []string{`interface = "lan9"`}
		}, nil, "host", "fault", `interface "lan9" does not exist`, "name one of "},
		"server demands TLS": {func(t *testing.T, l *lab.Lab) []string {
			secureVSFTPd(t, l.Server(), site4.server, terms{pair: newAuthority(t).server()})
			return nil
		}, nil, "server_auth_tls", "fault", "the server demands TLS", `tls.server = "required"`},
		"authority missing": {func(t *testing.T, l *lab.Lab) []string {
			vsftpd(t, l.Server(), site4.server)
			return []string{"[forward.tls]", `server = "required"`, `ca = "/nowhere/ca.pem"`}
		}, nil, "tls_ca", "fault", "/nowhere/ca.pem does not exist", "name the file where it is"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.found(t)
		})
	}
}

// found wants doctor to find it, and nothing graver.
func (p provoked) found(t *testing.T) {
	l := labtest.New(t)
	keys := p.provoke(t, l)
	d := diagnose(t, l.Gateway(), append([]string{"-c", archive(t, keys...)}, p.args...)...)
	d.has(p.code, p.level, p.text, p.remedy)
	want := 0
	if p.level == "fault" {
		want = 1
	}
	if d.status != want || d.Worst != p.level {
		t.Errorf("got exit status %d, worst %q; want %d, %q:\n%s", d.status, d.Worst, want, p.level, d.text)
	}
}

// Ctrl-C ends a trial that waits, with what has been found until then.
func TestDoctorInterrupted(t *testing.T) {
	l := labtest.New(t)
	server := listen(t, l.Server(), server4) // and it never greets
	cmd := command("doctor", "-c", archive(t))
	var stdout strings.Builder
	cmd.Stdout = &stdout
	p := launch(t, l.Gateway(), cmd)
	accept(t, server)
	p.signal(syscall.SIGINT)
	if got := p.end(); got != 1 {
		t.Errorf("got exit status %d; want 1", got)
	}
	wantLines(t, p.text(), "ftpgate: interrupted: not everything has been tried\n")
	wantLines(t, stdout.String(), "forward archive: ", "the check ended before everything had been tried")
}

// Both of a name's addresses are tried, and one that nobody answers at is no fault as long as the other one is.
func TestDoctorTwoAddresses(t *testing.T) {
	l := labtest.New(t)
	vsftpd(t, l.Server(), site4.server)
	hosts := writeFile(t, "hosts", "203.0.113.21 ftp.lab.example\n2001:db8:113::21 ftp.lab.example\n")
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/hosts", 0) })
	d := diagnose(t, l.Gateway(), "-c", archive(t, `listen = ":2123"`, `server = "ftp.lab.example"`))
	d.has("server_connect", "warning", "[2001:db8:113::21]:21 refused the connection", "start the FTP server there")
	d.has("server_pasv", "ok", "203.0.113.21:21: ", "")
}
