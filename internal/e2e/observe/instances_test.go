package observe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab/labtest"
)

// The users of TestInstances beside root.
const anna, bert, carol = 64_123, 64_124, 64_125

// as prepares ftpgate for a user, whose login has given it a runtime directory or not.
func as(t *testing.T, uid uint32, runtime string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := harness.AsUser(t, harness.Command(args...), uid)
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool {
		return strings.HasPrefix(v, "XDG_RUNTIME_DIR=") || strings.HasPrefix(v, "RUNTIME_DIRECTORY=")
	})
	if runtime != "" {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+runtime)
	}
	return cmd
}

// directoryOf makes a directory that belongs to a user until the test ends.
func directoryOf(t *testing.T, uid int, path string) string {
	t.Helper()
	t.Cleanup(func() { os.RemoveAll(path) })
	if err := errors.Join(os.MkdirAll(path, 0o700), os.Chown(path, uid, uid)); err != nil {
		t.Fatal(err)
	}
	return path
}

// ownRun gives this test's processes a /run without any other ftpgate.
func ownRun(t *testing.T) {
	t.Helper()
	if harness.SingleUser(t) {
		t.Skip("this user namespace has no other user than root: run as root to test with several")
	}
	err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
	if err := errors.Join(err, os.Mkdir("/run/user", 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/run", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// instancesBed is two forwards and a run, of three users, with a scripted server behind each.
type instancesBed struct {
	*harness.Testbed
	runtime, file     string
	ofAnna, ofBert    *harness.Program
	annasForward, run string // how status heads them
}

func newInstancesBed(t *testing.T) *instancesBed {
	t.Helper()
	l := labtest.New(t)
	ownRun(t)
	s := &instancesBed{Testbed: &harness.Testbed{Lab: l, T: t, Address: harness.Gateway4,
		Listener: harness.Listen(t, l.Server(), harness.Server4)}}
	s.StartProgram("forward", harness.Gateway4, harness.Server4)

	s.runtime = directoryOf(t, anna, fmt.Sprint("/run/user/", anna))
	s.ofAnna = harness.StartCommand(t, l.Gateway(), as(t, anna, s.runtime, "forward", "192.168.5.2:2122",
		harness.Server4)).AwaitReady()
	s.annasForward = fmt.Sprintf("process %d of user %d: forward 192.168.5.2:2122 leads to 203.0.113.21:21\n",
		s.ofAnna.Cmd.Process.Pid, anna)

	s.file = filepath.Join(directoryOf(t, bert, harness.ShortDir(t)+"/bert"), "ftpgate.toml")
	harness.OverwriteFile(t, s.file, "health = \"off\"\n[[forward]]\nname = \"camera\"\n"+
		"listen = \"192.168.5.2:2123\"\nserver = \"203.0.113.21\"\n")
	if err := errors.Join(os.Chmod(filepath.Dir(filepath.Dir(s.file)), 0o755), os.Chmod(s.file,
		0o644)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(fmt.Sprint("/tmp/ftpgate-", bert)) })
	s.ofBert = harness.StartCommand(t, l.Gateway(), as(t, bert, "", "run", "-c", s.file)).AwaitReady()
	s.run = fmt.Sprintf("process %d of user %d: %s\n", s.ofBert.Cmd.Process.Pid, bert, s.file)
	return s
}

// output runs a command as root, and returns what it prints. It must succeed.
func (s *instancesBed) output(args ...string) string {
	s.T.Helper()
	stdout, stderr, status := harness.Run(s.T, s.Gateway(), args...)
	if status != 0 || stderr != "" {
		s.T.Fatalf("ftpgate %q: got exit status %d, %s%s; want 0", args, status, stdout, stderr)
	}
	return stdout
}

// The commands find the ftpgates of the user, and root's those of all users, and say which is which.
func TestInstances(t *testing.T) {
	s := newInstancesBed(t)
	harness.WantContains(t, s.output("status"), s.annasForward, s.run,
		fmt.Sprintf("process %d: forward 192.168.5.2:2121 leads to 203.0.113.21:21\n",
			s.Program.Cmd.Process.Pid))
	stdout, stderr, status := harness.RunCommand(t, s.Gateway(), as(t, anna, s.runtime, "status"))
	if status != 0 || stderr != "" || strings.Contains(stdout, "2121") || strings.Contains(stdout, "camera") {
		t.Errorf("anna's status: got exit status %d, %s%s; want hers alone", status, stdout, stderr)
	}
	harness.WantContains(t, stdout, "forward 192.168.5.2:2122: ")
	harness.WantContains(t, s.output("reload", "--instance", s.file), s.file+": read again, 1 forward\n")
	if strings.Contains(s.ofBert.Log(), "waits for a restart") {
		t.Error("the log says that the reload has changed what waits for a restart; want nothing changed")
	}
	s.wantOfSessions()
	s.wantSilent()
	s.wantStaleGone()
}

// wantOfSessions: explain and kill find the session, and do nothing where two ftpgates have it.
func (s *instancesBed) wantOfSessions() {
	t := s.T
	first := s.Login()
	s.Address = "192.168.5.2:2122"
	second := s.Login()
	var list struct {
		Instances []struct {
			PID, UID int
			Sessions []harness.SessionInfo
		}
	}
	harness.DecodeJSON(t, s.output("sessions", "-o", "json"), &list)
	ids, users := map[string]string{}, map[int]int{}
	for _, i := range list.Instances {
		users[i.UID] = len(i.Sessions)
		for _, one := range i.Sessions {
			ids[one.Client] = one.ID
		}
	}
	if len(users) != 3 || users[0] != 1 || users[anna] != 1 || users[bert] != 0 {
		t.Errorf("got the sessions %+v; want one of root's, one of anna's and none of bert's", list)
	}
	harness.WantContains(t, s.output("sessions"), "PROCESS  SESSION", ids[first.Client.LocalAddr().String()])

	id := ids[second.Client.LocalAddr().String()]
	harness.WantContains(t, s.output("explain", id), "session    "+id+" of forward 192.168.5.2:2122")
	_, stderr, status := harness.Run(t, s.Gateway(), "explain", "1")
	if status != 1 {
		t.Errorf("explain 1: got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr, "2 running ftpgates have a session 1: choose one with --instance "+
		"PROCESS\n",
		"ftpgate:   "+s.annasForward)
	harness.WantContains(t, s.output("explain", "1", "--instance", fmt.Sprint(s.ofAnna.Cmd.Process.Pid)),
		"of forward 192.168.5.2:2122")
	if got, want := s.output("kill", id), "session "+id+": ending\n"; got != want {
		t.Errorf("kill: got %q; want %q", got, want)
	}
	second.Client.Expect("421 an operator ended the session")
	first.Quit()
}

// wantSilent: an ftpgate that hangs is named, and the others are shown.
func (s *instancesBed) wantSilent() {
	s.ofBert.Suspend()
	defer s.ofBert.Signal(syscall.SIGCONT)
	stdout, stderr, status := harness.Run(s.T, s.Gateway(), "status")
	want := fmt.Sprintf("ftpgate: process %d at /tmp/ftpgate-%d/%[1]d.sock: it does not answer within 1s\n",
		s.ofBert.Cmd.Process.Pid, bert)
	if status != 1 || stderr != want {
		s.T.Errorf("with one that hangs: got exit status %d, %q; want 1 and %q", status, stderr, want)
	}
	harness.WantContains(s.T, stdout, s.annasForward)
}

// wantStaleGone: the socket of a killed forward is left behind; its user's next command removes it, and
// root's does not.
func (s *instancesBed) wantStaleGone() {
	t := s.T
	s.ofAnna.Kill()
	sockets := func() []string {
		left, err := filepath.Glob(s.runtime + "/ftpgate/*")
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	if got := s.output("status"); strings.Contains(got, "2122") || len(sockets()) != 1 {
		t.Errorf("after a kill got\n%s\nand the sockets %q; want one, and none shown", got, sockets())
	}
	stdout, stderr, status := harness.RunCommand(t, s.Gateway(), as(t, anna, s.runtime, "status"))
	wantOneLine(t, "anna's status", stdout, stderr, status, "ftpgate is not running here: "+
		"no socket of yours answers, and only root sees those of other users")
	if len(sockets()) != 0 {
		t.Errorf("after anna's command got the sockets %q; want none", sockets())
	}
}

// A forward does not use a directory that another user has prepared for it. It serves without a socket.
func TestInstanceHostileDirectory(t *testing.T) {
	l := labtest.New(t)
	ownRun(t)
	dir := directoryOf(t, bert, fmt.Sprint("/tmp/ftpgate-", carol))
	p := harness.StartCommand(t, l.Gateway(), as(t, carol, "", "forward", "192.168.5.2:2124",
		harness.Server4)).AwaitReady()
	harness.WantContains(t, p.Log(), "no place for the admin socket: status, sessions and explain will "+
		"not work",
		dir+" must be a directory that only its owner, user 64125, can change: remove it")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("got %v in the other user's directory, error %v; want nothing", left, err)
	}
}
