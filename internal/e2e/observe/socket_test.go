package observe

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab/labtest"
)

// unusedForward is a forward that no client connects to.
const unusedForward = "[[forward]]\nlisten = \":2121\"\nserver = \"203.0.113.21\"\n"

// wantOneLine expects that a command fails with the reason in one line.
func wantOneLine(t *testing.T, what, stdout, stderr string, status int, want ...string) {
	t.Helper()
	if status != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 ||
		!strings.HasPrefix(stderr, "ftpgate") {
		t.Errorf("%s: got exit status %d, printed %q, and on standard error %q; want 1 and one line", what,
			status, stdout, stderr)
	}
	harness.WantContains(t, stderr, want...)
}

// wantNotRunning expects that every command reports that ftpgate is not running.
func wantNotRunning(s *harness.AdminGateway) {
	s.T.Helper()
	for _, words := range [][]string{{"status"}, {"status", "--json"}, {"sessions"}, {"sessions", "--json"},
		{"sessions", "--watch"},
		{"explain", "1"}, {"kill", "1"}, {"reload"}} {
		stdout, stderr, status := s.Run(words[0], words[1:]...)
		wantOneLine(s.T, words[0], stdout, stderr, status,
			"ftpgate is not running here: nothing answers at "+s.Socket)
	}
}

// wantSocket expects the socket's mode and group.
func wantSocket(s *harness.AdminGateway, group int) {
	s.T.Helper()
	info, err := os.Lstat(s.Socket)
	if err != nil {
		s.T.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t); info.Mode() != fs.ModeSocket|0o660 || int(got.Gid) != group ||
		int(got.Uid) != os.Getuid() {
		s.T.Errorf("got a socket with mode %v, of user %d and group %d; want 0660, %d and %d", info.Mode(),
			got.Uid, got.Gid, os.Getuid(), group)
	}
}

// The socket belongs to root and a group. Other users hear why they cannot use it.
func TestSocketGroup(t *testing.T) {
	const gid, nobody = 64_123, 65_534
	l := labtest.New(t)
	groups := harness.WriteFile(t, "group", "root:x:0:\nnogroup:x:65534:\n")
	// Only this test's processes see these groups: they have a mount namespace of their own.
	if err := unix.Mount(groups, "/etc/group", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/group", 0) })
	s := harness.StartAdminGateway(t, l, unusedForward)
	wantSocket(s, os.Getgid()) // no group ftpgate exists
	s.Interrupt()
	if _, err := os.Lstat(s.Socket); !os.IsNotExist(err) {
		t.Errorf("after the end got the socket, error %v; want it gone", err)
	}
	wantNotRunning(s)
	if harness.SingleUser(t) {
		t.Skip("this user namespace has no other user than root: run as root to test with another one")
	}

	harness.OverwriteFile(t, groups, fmt.Sprintf("root:x:0:\nnogroup:x:65534:\nftpgate:x:%d:\n", gid))
	if g, err := user.LookupGroup("ftpgate"); err != nil || g.Gid != strconv.Itoa(gid) {
		t.Fatalf("got group ftpgate %v, error %v", g, err)
	}
	s.Program = harness.Start(t, s.Host, "run", "-c", s.ConfigFile).AwaitReady()
	wantSocket(s, gid)
	for _, words := range [][]string{{"status"}, {"sessions"}, {"explain", "1"}, {"kill", "1"}, {"reload"}} {
		stdout, stderr, status := harness.RunCommand(t, s.Host, harness.AsUser(t,
			s.Command(words[0], words[1:]...), nobody))
		wantOneLine(t, words[0]+" as nobody", stdout, stderr, status,
			"no permission for "+s.Socket+": be root or a member of group ftpgate")
	}
	member := harness.AsUser(t, s.Command("status"), nobody)
	member.SysProcAttr.Credential.Groups = []uint32{gid}
	if stdout, stderr, status := harness.RunCommand(t, s.Host, member); status != 0 ||
		!strings.Contains(stdout, "forward :2121") {
		t.Errorf("status as a member of the group: got exit status %d, %q, %q; want 0", status, stdout,
			stderr)
	}
}

// A start replaces the socket of a killed ftpgate, and not the socket of a running one.
func TestSocketStaleAndTaken(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	s := harness.StartAdminGateway(t, l, unusedForward)
	s.Kill()
	if _, err := os.Lstat(s.Socket); err != nil {
		t.Fatalf("after a kill: %v; want the socket left behind", err)
	}
	wantNotRunning(s)
	s.Program = harness.Start(t, s.Host, "run", "-c", s.ConfigFile).AwaitReady()
	wantSocket(s, os.Getgid())

	// Another host, the same file system.
	stdout, stderr, status := harness.Run(t, l.Client(), "run", "-c", s.ConfigFile)
	if status != 1 || stdout != "" {
		t.Errorf("a second run: got exit status %d, printed %q; want 1", status, stdout)
	}
	harness.WantContains(t, stderr,
		"admin socket "+s.Socket+": a running ftpgate answers there already: stop it, or choose another path",
		"1 fault, nothing has been changed")
	if got := s.Status(); got.PID != s.Cmd.Process.Pid || got.File != s.ConfigFile {
		t.Errorf("got the status %+v; want that of process %d", got, s.Cmd.Process.Pid)
	}
	if left, err := filepath.Glob(s.Socket + "?*"); err != nil || len(left) > 0 {
		t.Errorf("beside the socket got %v, error %v; want nothing", left, err)
	}
	s.Interrupt()
	wantNotRunning(s)
}

// httpDo sends a request over TCP with dial, or to the socket if the URL's host is "socket".
func httpDo(s *harness.AdminGateway, dial func(network, address string) (net.Conn, error), method, url,
	token string) (status int, body string) {
	s.T.Helper()
	transport := &http.Transport{DialContext: func(_ context.Context, network, address string) (net.Conn,
		error) {
		if address == "socket:80" {
			return net.Dial("unix", s.Socket)
		}
		return dial(network, address)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(s.T.Context(), method, url, nil)
	if err != nil {
		s.T.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := (&http.Client{Transport: transport, Timeout: harness.Timeout}).Do(r)
	if err != nil {
		s.T.Fatalf("%s %s: %v", method, url, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.T.Fatalf("%s %s: %v", method, url, err)
	}
	return answer.StatusCode, string(text)
}

// wantError expects an error in JSON.
func wantError(t *testing.T, what string, status int, body string, wantStatus int, wantText string) {
	t.Helper()
	var e struct{ Error, Remedy string }
	harness.DecodeJSON(t, body, &e)
	if status != wantStatus || !strings.Contains(e.Error, wantText) {
		t.Errorf("%s: got %d, %q; want %d, %q", what, status, e.Error, wantStatus, wantText)
	}
}

// Wrong requests get an error in JSON.
func TestWrongRequests(t *testing.T) {
	t.Parallel()
	s := harness.StartAdminGateway(t, labtest.New(t), unusedForward)
	for _, tt := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"POST", "/v1/status", 405, "POST is not possible here"},
		{"GET", "/v1/reload", 405, "GET is not possible here"},
		{"PUT", "/v1/sessions/1", 405, "PUT is not possible here"},
		{"DELETE", "/v1/sessions", 405, "DELETE is not possible here"},
		{"GET", "/v2/status", 404, "there is no such path"},
		{"GET", "/v1", 404, "there is no such path"},
		{"GET", "/v1/status/", 404, "there is no such path"},
		{"GET", "/v1/sessions/none-1", 404, "there is no session none-1"},
		{"DELETE", "/v1/sessions/none-1", 404, "there is no session none-1"},
		{"GET", "/v1/sessions?state=asleep", 400, "no state \"asleep\""},
		{"GET", "/v1/sessions?colour=red", 400, "colour"},
	} {
		status, body := httpDo(s, nil, tt.method, "http://socket"+tt.path, "")
		wantError(t, tt.method+" "+tt.path, status, body, tt.status, tt.text)
	}
	status, body := httpDo(s, func(network, address string) (net.Conn, error) {
		return s.Host.Dial(t.Context(), network, harness.MetricsAddress)
	},
		"GET", "http://gateway.example.com:9121/v1/status", "") // another name for the loopback address
	wantError(t, "a foreign name", status, body, 403, "the Host header is not a loopback address")
}

// Beyond the loopback the configuration needs a token, and so does each request.
func TestToken(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	s := harness.StartAdminGateway(t, l, unusedForward)
	s.Interrupt()
	const at = "192.168.5.2:9121"
	text := fmt.Sprintf("[admin]\nsocket = %q\nlisten = %q\n", s.Socket, at)
	harness.OverwriteFile(t, s.ConfigFile, text+unusedForward)
	_, stderr, status := harness.Run(t, s.Host, "run", "-c", s.ConfigFile)
	if status != 2 {
		t.Errorf("without a token: got exit status %d; want 2", status)
	}
	harness.WantContains(t, stderr, s.ConfigFile+":3:", "is not on loopback", "admin.token_file")

	const token = "a-token-that-is-long-enough"
	file := filepath.Join(filepath.Dir(s.ConfigFile), "token")
	harness.OverwriteFile(t, file, token+"\n")
	harness.OverwriteFile(t, s.ConfigFile, text+fmt.Sprintf("token_file = %q\n", file)+unusedForward)
	_, stderr, status = harness.Run(t, s.Host, "run", "-c", s.ConfigFile)
	if status != 1 {
		t.Errorf("with a token that others can read: got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr, "has mode 0644, so that others can read or change it: chmod 600 "+file)
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Program = harness.Start(t, s.Host, "run", "-c", s.ConfigFile).AwaitReady()

	dial := func(network, address string) (net.Conn, error) {
		return l.Client().Dial(t.Context(), network,
			address)
	}
	for _, path := range []string{"/v1/status", "/v1/sessions", "/metrics", "/v1/nothing"} {
		for _, wrong := range []string{"", "another-token-that-is-long-enough"} {
			status, body := httpDo(s, dial, "GET", "http://"+at+path, wrong)
			wantError(t, path+" with token "+wrong, status, body, 401, "no token, or a wrong one")
		}
	}
	if status, body := httpDo(s, dial, "GET", "http://"+at+"/v1/status", token); status != 200 ||
		!strings.Contains(body, `"pid"`) {
		t.Errorf("with the token: got %d, %q; want the status", status, body)
	}
	stdout, stderr, status := harness.Run(t, l.Client(), "status", "--socket", "http://"+at, "--token-file",
		file)
	if status != 0 || !strings.Contains(stdout, "forward :2121") {
		t.Errorf("ftpgate status with the token: got exit status %d, %q, %q; want 0", status, stdout, stderr)
	}
	stdout, stderr, status = harness.Run(t, l.Client(), "kill", "--socket", "http://"+at, "1")
	wantOneLine(t, "ftpgate kill without the token", stdout, stderr, status, "no token, or a wrong one")
	if strings.Contains(s.Log(), token) {
		t.Error("the log has the token in it")
	}
}
