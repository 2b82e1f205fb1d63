package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// What every server has, and who may have it. The account is the one that needs no system user, so
// that a server runs for an ordinary user and on a machine that has never had its package.
const (
	remoteDir    = "pub"
	remoteFile   = "pub/data.bin"
	remoteMarker = "listed-and-never-fetched.txt"
	uploadFile   = "in/up.bin"
	account      = "demo"
	passphrase   = "secret"
	// passwordHash is crypt(3) of passphrase: SHA-512, salt "ftpgate".
	passwordHash = "$6$ftpgate$vX3TNxGCpjqOS9e0hhx/mUUbNQdRdDEF355YJvnHzunJNAb/UahPmH5aLV9FQ3wKE49lg2EQghpfP7ewDyM6w1"
)

// content is a few MiB of every byte value, the same in each run: CR, LF, NUL and Telnet's IAC (255)
// are among them, so that a transfer that is not clean of 8 bits shows.
var content = sync.OnceValue(func() []byte {
	data := make([]byte, 3<<20+7) // not a multiple of any buffer
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
})

// server is a real FTP server that serves a tree of the test's own.
type server struct {
	root           string // has remoteFile and remoteMarker, and room for uploadFile
	user, password string
	log            string         // a file with all commands that it got; "" where it has no such log
	command        *regexp.Regexp // finds those commands: name, argument
}

// dataCommands returns how data connections were asked for, as the server saw it.
func (s server) dataCommands(t *testing.T) []dataCommand {
	t.Helper()
	log, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	return findCommands(s.command, string(log))
}

// newServer makes the tree of a server.
func newServer(t *testing.T) server {
	t.Helper()
	s := server{root: filepath.Join(t.TempDir(), "root"), user: account, password: passphrase}
	for _, dir := range []string{s.root, filepath.Join(s.root, remoteDir), filepath.Join(s.root, filepath.Dir(uploadFile))} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{remoteFile: content(), filepath.Join(remoteDir, remoteMarker): nil} {
		if err := os.WriteFile(filepath.Join(s.root, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// vsftpd runs vsftpd at an address. It never changes its user, so that one configuration serves root
// and the single user of a user namespace. Settings are added to its configuration.
func vsftpd(t *testing.T, h *lab.Host, at netip.AddrPort, settings ...string) server {
	t.Helper()
	program := peer(t, "vsftpd")
	s := newServer(t)
	s.user, s.password = "anonymous", "somebody@example.com"
	s.log = filepath.Join(t.TempDir(), "vsftpd.log")
	s.command = regexp.MustCompile(`FTP command: Client "[^"]*", "(PASV|EPSV|PORT|EPRT)(?: ([^"]*))?"`)
	listen := []string{"listen=YES", "listen_address=" + at.Addr().String()}
	if at.Addr().Is6() {
		listen = []string{"listen_ipv6=YES", "listen_address6=" + at.Addr().String()}
	}
	lines := append(listen,
		fmt.Sprintf("listen_port=%d", at.Port()),
		"background=NO",
		"run_as_launching_user=YES", "ftp_username=root", "nopriv_user=root",
		// Namespaces and filters of its own: not to be had in a user namespace.
		"isolate=NO", "isolate_network=NO", "seccomp_sandbox=NO",
		"secure_chroot_dir="+t.TempDir(), "pam_service_name=none",
		"anonymous_enable=YES", "local_enable=NO", "anon_root="+s.root, "allow_writeable_chroot=YES",
		"anon_world_readable_only=NO", "write_enable=YES", "anon_upload_enable=YES",
		"anon_mkdir_write_enable=YES", "anon_other_write_enable=YES", "chown_uploads=NO",
		"connect_from_port_20=YES", // RFC 959 section 3.2: active mode's default data port
		"syslog_enable=NO", "xferlog_enable=YES", "xferlog_std_format=NO",
		"log_ftp_protocol=YES", "vsftpd_log_file="+s.log,
	)
	conf := writeFile(t, "vsftpd.conf", strings.Join(append(lines, settings...), "\n")+"\n")
	greet := greeting
	if slices.Contains(settings, implicitVSFTPD) {
		greet = greetingInTLS
	}
	runPeer(t, h, at, exec.Command(program, conf), greet)
	return s
}

// pureFTPd runs pure-ftpd at an address, with a user database of its own and more options.
func pureFTPd(t *testing.T, h *lab.Host, at netip.AddrPort, options ...string) server {
	t.Helper()
	program, users := peer(t, "pure-ftpd"), peer(t, "pure-pw")
	if singleUser(t) {
		t.Skip("pure-ftpd lets nobody in as root and changes to the user of each login, and this user namespace has root alone: run as root to test with it")
	}
	s := newServer(t)
	giveAway(t, s.root, nobody)
	text := fmt.Sprintf("%s:%s:%d:%d::%s/./::::::::::::\n", account, passwordHash, nobody, nobody, s.root)
	passwd := writeFile(t, "passwd", text)
	db := filepath.Join(filepath.Dir(passwd), "users.pdb")
	if out, err := exec.Command(users, "mkdb", db, "-f", passwd).CombinedOutput(); err != nil {
		t.Fatalf("pure-pw mkdb: %v\n%s", err, out)
	}
	runPeer(t, h, at, exec.Command(program, append([]string{
		"--bind", fmt.Sprintf("%s,%d", at.Addr(), at.Port()),
		"--noanonymous", "--dontresolve", "--login", "puredb:" + db,
		"--syslogfacility", "none", "--pidfile", db + ".pid"}, options...)...), greeting)
	return s
}

// proFTPd runs proftpd at an address, with more settings. The account is root's: the one user that is
// everywhere.
func proFTPd(t *testing.T, h *lab.Host, at netip.AddrPort, settings ...string) server {
	t.Helper()
	program := peer(t, "proftpd")
	s := newServer(t)
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	// It refuses a file that others could read.
	if err := os.WriteFile(users, fmt.Appendf(nil, "%s:%s:0:0::%s:/bin/sh\n", account, passwordHash, s.root), 0o600); err != nil {
		t.Fatal(err)
	}
	s.log = filepath.Join(dir, "commands.log")
	s.command = regexp.MustCompile(`(?m)^(PASV|EPSV|PORT|EPRT)(?: (.*))?$`)
	lines := []string{
		"ServerType standalone", "ServerName test", "User root", "Group root", "RootLogin on",
		"DefaultAddress " + at.Addr().String(), "SocketBindTight on", fmt.Sprintf("Port %d", at.Port()),
		"UseReverseDNS off", "ControlsEngine off", "WtmpLog off", "UseFtpUsers off",
		"AuthOrder mod_auth_file.c", "AuthUserFile " + users, "RequireValidShell off",
		"PidFile " + dir + "/pid", "ScoreboardFile " + dir + "/scoreboard", "DelayTable none",
		"TransferLog none", "SystemLog " + dir + "/system.log",
		`LogFormat commands "%r"`, "ExtendedLog " + s.log + " ALL commands",
	}
	conf := writeFile(t, "proftpd.conf", strings.Join(append(lines, settings...), "\n")+"\n")
	greet := greeting
	if slices.Contains(settings, implicitProFTPd) {
		greet = greetingInTLS
	}
	runPeer(t, h, at, exec.Command(program, "--nodaemon", "--quiet", "--config", conf), greet)
	return s
}

// pyftpdlib runs pyftpdlib's own server at an address.
func pyftpdlib(t *testing.T, h *lab.Host, at netip.AddrPort) server {
	t.Helper()
	python := pythonWith(t, "pyftpdlib")
	s := newServer(t)
	runPeer(t, h, at, exec.Command(python, "-m", "pyftpdlib", "--interface", at.Addr().String(), "--port", fmt.Sprint(at.Port()),
		"--write", "--directory", s.root, "--username", account, "--password", passphrase, "--debug"), greeting)
	return s
}

// runPeer runs a server in the foreground until the test ends, and returns once it greets.
func runPeer(t *testing.T, h *lab.Host, at netip.AddrPort, cmd *exec.Cmd, greet greeter) {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	// Sessions are processes of their own: they end with the group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if text, err := os.ReadFile(output.Name()); err == nil && t.Failed() {
			t.Logf("output of %s:\n%s", cmd.Path, text)
		}
	})
	if err := awaitGreeting(t.Context(), h, at, greet, ended); err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
}

// retryInterval paces the attempts to reach a server that is starting: the kernel has no event for
// "a process listens now".
const retryInterval = 10 * time.Millisecond

// greeter connects to a server and expects its 220 (RFC 959 section 5.4).
type greeter func(context.Context, *lab.Host, netip.AddrPort) error

// awaitGreeting returns when the server at an address greets.
func awaitGreeting(ctx context.Context, h *lab.Host, at netip.AddrPort, greet greeter, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	for {
		err := greet(ctx, h, at)
		if err == nil {
			return nil
		}
		select {
		case <-retry.C:
		case <-ended:
			return fmt.Errorf("ended before it greeted at %s: %w", at, err)
		case <-ctx.Done():
			return fmt.Errorf("no greeting at %s within %s: %w", at, patience, err)
		}
	}
}

func greeting(ctx context.Context, h *lab.Host, at netip.AddrPort) error {
	conn, err := h.Dial(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return hears220(conn)
}

func hears220(conn io.Reader) error {
	code := make([]byte, 3)
	if _, err := io.ReadFull(conn, code); err != nil {
		return err
	}
	if !bytes.Equal(code, []byte("220")) {
		return fmt.Errorf("got %q; want 220", code)
	}
	return nil
}

// peer finds a program that scripts/test-peers unpacks, because Debian's FTP servers refuse to be
// installed side by side: in the directory that FTPGATE_PEERS names, in the repository's .peers, or
// installed. Where it is missing, the test is skipped, but with CI=true it fails.
func peer(t *testing.T, name string) string {
	t.Helper()
	roots := []string{filepath.Join("..", "..", ".peers"), "/"} // tests run in their package's directory
	if unpacked := os.Getenv("FTPGATE_PEERS"); unpacked != "" {
		roots = append([]string{unpacked}, roots...)
	}
	for _, root := range roots {
		for _, dir := range []string{"usr/sbin", "usr/bin"} { // sbin is not on every user's PATH
			path, err := filepath.Abs(filepath.Join(root, dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := exec.LookPath(path); err == nil {
				return path
			}
		}
	}
	labtest.Need(t, name)
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// pythonWith finds a Python that has a module: the distribution's, which need not be PATH's first.
func pythonWith(t *testing.T, module string) string {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import "+module).Run() == nil {
			return python
		}
	}
	labtest.Need(t, "python3-"+module) // no program: named as the package, for the message
	return ""
}

// nobody is the user without rights, on Debian and the others.
const nobody = 65534

// giveAway makes a tree the property of a user, who may pass all directories above it that are the
// test's own.
func giveAway(t *testing.T, root string, uid int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(root); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// singleUser tells whether this user namespace knows root and nobody else, as the one does that
// labtest.Main makes for an ordinary user (user_namespaces(7): first ID inside, outside, count).
func singleUser(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	return len(fields) == 3 && fields[0] == "0" && fields[2] == "1"
}
