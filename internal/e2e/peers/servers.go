// Package peers runs real FTP clients and servers in the lab, and checks what each of them got.
package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// PassiveRangeSettings limit vsftpd's passive ports to PassiveRange.
var PassiveRangeSettings = []string{fmt.Sprintf("pasv_min_port=%d", PassiveMin),
	fmt.Sprintf("pasv_max_port=%d", PassiveMax)}

// What every server has. The account needs no system user, so that a server runs for an ordinary user,
// and on a machine where its package was never installed.
const (
	listedDir       = "pub"
	DownloadPath    = "pub/data.bin"
	ListedName      = "listed-and-never-fetched.txt"
	UploadPath      = "in/up.bin"
	Account         = "demo"
	AccountPassword = "secret"
	// passwordHash is crypt(3) of AccountPassword: SHA-512, salt "ftpgate".
	passwordHash = "$6$ftpgate$vX3TNxGCpjqOS9e0hhx/mUUbNQdRdDEF355YJvnHzunJNAb/UahPmH5aLV9FQ3wKE49lg2EQghpfP7ewDyM6w1"
)

// Content is a few MiB of every byte value, the same in each run. CR, LF, NUL and Telnet's IAC (255)
// are among them: a transfer that is not 8-bit clean changes them.
var Content = sync.OnceValue(func() []byte {
	data := make([]byte, 3<<20+7) // not a multiple of any buffer
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
})

// Server is a real FTP server with files of the test's own.
type Server struct {
	Root           string // has DownloadPath and ListedName, and room for UploadPath
	User, Password string
	log            string         // a file with all commands that it got; "" if it has none
	commandPattern *regexp.Regexp // finds name and argument of those commands
}

// prepare removes what an earlier client has uploaded, and returns the length of the log.
func (s Server) prepare(t *testing.T) int64 {
	t.Helper()
	if err := os.Remove(filepath.Join(s.Root, UploadPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	info, err := os.Stat(s.log)
	if s.log == "" || errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// dataCommands returns the commands for data connections that the server got since its log had a length.
func (s Server) dataCommands(t *testing.T, since int64) []DataCommand {
	t.Helper()
	return findDataCommands(s.commandPattern, harness.ReadFile(t, s.log)[since:])
}

// newServer makes a server's files.
func newServer(t *testing.T) Server {
	t.Helper()
	s := Server{Root: filepath.Join(t.TempDir(), "root"), User: Account, Password: AccountPassword}
	for _, dir := range []string{s.Root, filepath.Join(s.Root, listedDir),
		filepath.Join(s.Root, filepath.Dir(UploadPath))} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{DownloadPath: Content(),
		filepath.Join(listedDir, ListedName): nil} {
		if err := os.WriteFile(filepath.Join(s.Root, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// VSFTPD runs vsftpd with more settings. It never changes its user, so that one configuration serves
// root and the single user of a user namespace.
func VSFTPD(t *testing.T, h *lab.Host, at netip.AddrPort, settings ...string) Server {
	t.Helper()
	program := findProgram(t, "vsftpd")
	s := newServer(t)
	s.User, s.Password = "anonymous", "user@example.com"
	s.log = filepath.Join(t.TempDir(), "vsftpd.log")
	s.commandPattern = regexp.MustCompile(`FTP command: Client "[^"]*", "(PASV|EPSV|PORT|EPRT)(?: ([^"]*))?"`)
	listen := []string{"listen=YES", "listen_address=" + at.Addr().String()}
	if at.Addr().Is6() {
		listen = []string{"listen_ipv6=YES", "listen_address6=" + at.Addr().String()}
	}
	lines := append(listen,
		fmt.Sprintf("listen_port=%d", at.Port()),
		"background=NO",
		"run_as_launching_user=YES", "ftp_username=root", "nopriv_user=root",
		// It cannot have namespaces and filters of its own in a user namespace.
		"isolate=NO", "isolate_network=NO", "seccomp_sandbox=NO",
		"secure_chroot_dir="+t.TempDir(), "pam_service_name=none",
		"anonymous_enable=YES", "local_enable=NO", "anon_root="+s.Root, "allow_writeable_chroot=YES",
		"anon_world_readable_only=NO", "write_enable=YES", "anon_upload_enable=YES",
		"anon_mkdir_write_enable=YES", "anon_other_write_enable=YES", "chown_uploads=NO",
		"connect_from_port_20=YES", // RFC 959 section 3.2: active mode's default data port
		"syslog_enable=NO", "xferlog_enable=YES", "xferlog_std_format=NO",
		"log_ftp_protocol=YES", "vsftpd_log_file="+s.log,
	)
	conf := harness.WriteFile(t, "vsftpd.conf", strings.Join(append(lines, settings...), "\n")+"\n")
	startServer(t, h, at, exec.Command(program, conf), slices.Contains(settings, implicitVSFTPD))
	return s
}

// pureFTPd runs pure-ftpd with a user database of its own and more options.
func pureFTPd(t *testing.T, h *lab.Host, at netip.AddrPort, options ...string) Server {
	t.Helper()
	program, users := findProgram(t, "pure-ftpd"), findProgram(t, "pure-pw")
	if harness.SingleUser(t) {
		t.Skip("pure-ftpd accepts no login as root and changes to the user of each login, and this user " +
			"namespace has root alone: run as root to test with it")
	}
	s := newServer(t)
	changeOwner(t, s.Root, Nobody)
	text := fmt.Sprintf("%s:%s:%d:%d::%s/./::::::::::::\n", Account, passwordHash, Nobody, Nobody, s.Root)
	passwd := harness.WriteFile(t, "passwd", text)
	db := filepath.Join(filepath.Dir(passwd), "users.pdb")
	if out, err := exec.Command(users, "mkdb", db, "-f", passwd).CombinedOutput(); err != nil {
		t.Fatalf("pure-pw mkdb: %v\n%s", err, out)
	}
	startServer(t, h, at, exec.Command(program, append([]string{
		"--bind", fmt.Sprintf("%s,%d", at.Addr(), at.Port()),
		"--noanonymous", "--dontresolve", "--login", "puredb:" + db,
		"--syslogfacility", "none", "--pidfile", db + ".pid"}, options...)...), false)
	return s
}

// ProFTPD runs proftpd with more settings. The account is root's: the one user that exists everywhere.
func ProFTPD(t *testing.T, h *lab.Host, at netip.AddrPort, settings ...string) Server {
	t.Helper()
	program := findProgram(t, "proftpd")
	s := newServer(t)
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	// proftpd refuses a file that others can read.
	if err := os.WriteFile(users, fmt.Appendf(nil, "%s:%s:0:0::%s:/bin/sh\n", Account, passwordHash, s.Root),
		0o600); err != nil {
		t.Fatal(err)
	}
	s.log = filepath.Join(dir, "commands.log")
	s.commandPattern = regexp.MustCompile(`(?m)^(PASV|EPSV|PORT|EPRT)(?: (.*))?$`)
	lines := []string{
		"ServerType standalone", "ServerName test", "User root", "Group root", "RootLogin on",
		"DefaultAddress " + at.Addr().String(), "SocketBindTight on", fmt.Sprintf("Port %d", at.Port()),
		"UseReverseDNS off", "ControlsEngine off", "WtmpLog off", "UseFtpUsers off",
		"AuthOrder mod_auth_file.c", "AuthUserFile " + users, "RequireValidShell off",
		"PidFile " + dir + "/pid", "ScoreboardFile " + dir + "/scoreboard", "DelayTable none",
		"TransferLog none", "SystemLog " + dir + "/system.log",
		`LogFormat commands "%r"`, "ExtendedLog " + s.log + " ALL commands",
	}
	conf := harness.WriteFile(t, "proftpd.conf", strings.Join(append(lines, settings...), "\n")+"\n")
	startServer(t, h, at, exec.Command(program, "--nodaemon", "--quiet", "--config", conf),
		slices.Contains(settings, implicitProFTPd))
	return s
}

// pyftpdlib runs pyftpdlib's own server.
func pyftpdlib(t *testing.T, h *lab.Host, at netip.AddrPort) Server {
	t.Helper()
	python := pythonWith(t, "pyftpdlib")
	s := newServer(t)
	startServer(t, h, at, exec.Command(python, "-m", "pyftpdlib", "--interface", at.Addr().String(), "--port",
		fmt.Sprint(at.Port()),
		"--write", "--directory", s.Root, "--username", Account, "--password", AccountPassword, "--debug"),
		false)
	return s
}

// startServer runs a server in the foreground until the test ends, and returns once it greets: in TLS if that
// is implicit.
func startServer(t *testing.T, h *lab.Host, at netip.AddrPort, cmd *exec.Cmd, implicit bool) {
	t.Helper()
	ended := startProgram(t, h, cmd)
	greets := func(ctx context.Context) error { return greet(ctx, h, at, implicit, "") }
	if err := awaitReady(t.Context(), greets, ended); err != nil {
		t.Fatalf("%s at %s: %v", cmd.Path, at, err)
	}
}

// startProgram runs a program in the foreground until the test ends. The channel is closed when it has ended.
func startProgram(t *testing.T, h *lab.Host, cmd *exec.Cmd) (ended chan struct{}) {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = output
	}
	cmd.Stderr = output
	// Each session is a process of its own, and ends with the group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its error is that it was killed
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if text, err := os.ReadFile(output.Name()); err == nil && t.Failed() {
			t.Logf("output of %s:\n%s", cmd.Path, text)
		}
	})
	return ended
}

// awaitReady waits until ready returns no error.
func awaitReady(ctx context.Context, ready func(context.Context) error, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, harness.Timeout)
	defer cancel()
	retry := time.NewTicker(harness.PollInterval)
	defer retry.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-retry.C:
		case <-ended:
			return fmt.Errorf("ended before it was ready: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", harness.Timeout, err)
		}
	}
}

// greet connects to a server, sends what comes first, and expects its 220 (RFC 959 section 5.4).
func greet(ctx context.Context, h *lab.Host, at netip.AddrPort, implicit bool, first string) error {
	conn, err := h.Dial(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(harness.Timeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, first); err != nil {
		return err
	}
	if implicit { // the clients verify the certificate
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	code := make([]byte, 3)
	if _, err := io.ReadFull(conn, code); err != nil {
		return err
	}
	if !bytes.Equal(code, []byte("220")) {
		return fmt.Errorf("got %q; want 220", code)
	}
	return nil
}

// findProgram finds a program that scripts/test-peers unpacks, because Debian's FTP servers cannot be
// installed side by side. It looks in the directory that FTPGATE_PEERS names, in the repository's
// .peers, and among installed programs. Without the program the test is skipped; with CI=true it fails.
func findProgram(t *testing.T, name string) string {
	t.Helper()
	roots := []string{filepath.Join("..", "..", "..", ".peers"),
		"/"} // tests run in their package's directory
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

// pythons find, once for all tests, a Python that has a module; "" if there is none. PATH's first Python need
// not be the distribution's.
var pythons = map[string]func() string{
	"ssl": findPython("ssl"), "pyftpdlib": findPython("pyftpdlib"),
	"OpenSSL, pyftpdlib": findPython("OpenSSL, pyftpdlib"),
}

func findPython(module string) func() string {
	return sync.OnceValue(func() string {
		for _, python := range []string{"/usr/bin/python3", "python3"} {
			if exec.Command(python, "-c", "import "+module).Run() == nil {
				return python
			}
		}
		return ""
	})
}

// pythonWith returns the Python that has one of the modules in pythons. Without it the test is skipped.
func pythonWith(t *testing.T, module string) string {
	t.Helper()
	python := pythons[module]()
	if python == "" {
		labtest.Need(t, "python3-"+module) // the name of the package, for the message
	}
	return python
}

// Nobody is the unprivileged user.
const Nobody = 65534

// changeOwner gives a tree to a user, and lets that user enter the test's directories above it.
func changeOwner(t *testing.T, root string, uid int) {
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

// Servers are the real servers by name.
var Servers = map[string]func(*testing.T, *lab.Host, netip.AddrPort) Server{
	"vsftpd":    func(t *testing.T, h *lab.Host, at netip.AddrPort) Server { return VSFTPD(t, h, at) },
	"pure-ftpd": func(t *testing.T, h *lab.Host, at netip.AddrPort) Server { return pureFTPd(t, h, at) },
	"proftpd":   func(t *testing.T, h *lab.Host, at netip.AddrPort) Server { return ProFTPD(t, h, at) },
	"pyftpdlib": pyftpdlib,
}
