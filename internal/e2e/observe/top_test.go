package observe

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// hostileUser has what a terminal would obey: clear, a title, a bell, the direction of writing, and wide and
// broken characters.
const hostileUser = "an\x1b[2Jna\x1b]0;owned\x07\u202e中\xff\u009b31m"

// Keys lead through the screens: sessions, a time line, forwards, the filter, kill and ban with questions.
func TestTop(t *testing.T) {
	t.Parallel()
	st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = \"relay\"\n", "files",
		harness.Gateway4)+fmt.Sprintf(harness.ForwardConfig, "other", "192.168.5.2:2122"))
	idle, busy, hostile := st.Login(), st.Login(), st.Connect()
	b := busy.Retrieve(netip.Addr{})
	hostile.Server.Send("220 hello")
	hostile.Client.Expect("220")
	hostile.Exchange("USER "+hostileUser, "331 and the password")
	hostile.Exchange("PASS "+harness.Password, "230 welcome")
	hostile.Exchange("CWD /"+strings.Repeat("\u4e2d\x1b[31m", 500), "250 fine")

	screen := harness.NewScreen(t, s.Host, 80, 24, "NO_COLOR=1", "LC_ALL=C.UTF-8")
	screen.RunProgram("", "top", "--socket", s.Socket, "--interval", "200ms")
	screen.Await("the sessions, with rates", func(text string) bool {
		b.Carry(harness.RandomBytes(100_000))
		return regexp.MustCompile(`3 sessions, 1 transfer  up 0 B/s  down [1-9.]+ [kM]?B/s`).MatchString(
			text) &&
			regexp.MustCompile(
				`(?m)^.*-\d+ +192\.168\.5\.\d+ +alice +\d+s +0 B +[1-9.]+ [kM]?B .* RETR file$`).
				MatchString(text)
	})
	wantTidy(t, screen, 80, 24)
	screen.AwaitText("2 forwards\n", `an\x1b[2Jn..`, "by rate", "? help  enter time line  / filter")

	screen.Press("f")
	screen.AwaitText("SERVER'S HEALTH", "files", "not asked")
	screen.Press("f", "/")
	screen.Type("x1b")
	screen.AwaitText("/x1b_")
	screen.Press("Enter") // the filter looks for what was sent, not for how it is printed
	screen.Await("no session", func(text string) bool { return !strings.Contains(text, "192.168.5.") })
	screen.Press("Escape")
	screen.AwaitText("alice")
	screen.Press("/")
	screen.Type("owned")
	screen.Press("Enter", "Enter")
	screen.AwaitText("verdict", "nothing went wrong", "command      USER",
		`  an\x1b[2Jna\x1b]0;owned\x07\u202e\u4e2d`)
	wantTidy(t, screen, 80, 24)
	screen.Press("G")
	screen.AwaitText("250 fine")
	wantTidy(t, screen, 80, 24)

	wantKillAndBan(s, screen, hostile, idle)
	screen.Press("?")
	screen.AwaitText("ban the session's client, after a question")
	screen.Press("q", "q")
	screen.AwaitPrompt()
}

// wantKillAndBan kills the session whose time line is shown, and bans the client of another one.
func wantKillAndBan(s *harness.AdminGateway, screen *harness.Screen, shown, other harness.Session) {
	screen.Press("K")
	screen.AwaitText("kill? y: yes, any other key: no. Session ")
	screen.Press("n")
	shown.WantAlive()
	screen.Press("K")
	screen.AwaitText("? y: yes")
	screen.Press("y")
	shown.Client.Expect("421 an operator ended the session")
	screen.Press("g")
	screen.AwaitText("verdict    ended by an operator")
	screen.Press("q", "Escape")
	screen.AwaitText("2 sessions", "alice") // and with another key at once, a terminal takes Escape for Alt
	screen.Press("B")
	screen.AwaitText("ban 192.168.5.", "h: an hour, d: a day, u: until it is lifted")
	screen.Press("h")
	other.Client.Expect("421")
	screen.AwaitText(": banned until 20", "0 sessions")
	harness.WantContains(s.T, s.Output("bans"), ": ftpgate top\n")
}

// wantTidy: nothing that a peer has sent has reached the terminal as it was, and each line fits.
func wantTidy(t *testing.T, s *harness.Screen, columns, rows int) {
	t.Helper()
	text := s.Text()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != rows || !strings.HasPrefix(lines[0], "ftpgate top ") {
		t.Errorf("got %d lines; want %d, from the title on:\n%s", len(lines), rows, text)
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > columns {
			t.Errorf("got a line of %d columns: %q", n, line)
		}
		for _, r := range line {
			if r >= 0x300 {
				t.Errorf("got %q in %q", r, line)
			}
		}
	}
	if got := regexp.MustCompile(`\x1b\[([0-9;]*;)?[349][0-8][0-9;]*m`).FindString(s.Styled()); got != "" {
		t.Errorf("got the colour %q; want none with NO_COLOR", got)
	}
}

// The terminal is given back as it was: after q, Ctrl-C, Ctrl-Z and SIGTERM. The screen follows the
// terminal's size, also a very small one.
func TestTopTerminal(t *testing.T) {
	t.Parallel()
	st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4))
	st.Login()
	screen := harness.NewScreen(t, s.Host, 80, 24, "LC_ALL=C")
	dir := t.TempDir()
	settings := func(file string) string {
		screen.Type("clear; stty -g >" + dir + "/" + file + "; echo sav\"\"ed " + file)
		screen.Press("Enter")
		screen.AwaitText("saved " + file)
		return harness.ReadFile(t, dir+"/"+file)
	}
	before := settings("before")
	top := func() {
		screen.RunProgram("", "top", "--socket", s.Socket)
		screen.AwaitText("ftpgate top", "alice", "? help")
	}
	wantBack := func(after string) {
		t.Helper()
		screen.AwaitPrompt()
		if strings.Contains(screen.Text(), "ftpgate top") {
			t.Errorf("after %s got\n%s\nwant what was there before", after, screen.Text())
		}
		if got := settings(after); got != before {
			t.Errorf("after %s got the terminal's settings %s; want %s", after, got, before)
		}
	}
	top()
	wantSizes(screen)
	screen.Press("C-z")
	wantBack("ctrl-z")
	screen.Type("fg")
	screen.Press("Enter")
	screen.AwaitText("ftpgate top", "alice")
	screen.Press("C-c")
	wantBack("ctrl-c")
	top()
	screen.Press("q")
	wantBack("q")
	screen.RunProgram("sh -c 'echo $$ >"+dir+"/pid; exec \"$@\"' sh env", "top", "--socket", s.Socket)
	screen.AwaitText("ftpgate top", "alice")
	pid, err := strconv.Atoi(strings.TrimSpace(harness.ReadFile(t, dir+"/pid")))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGTERM)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantBack("sigterm")
	screen.RunProgram("TERM=dumb", "top", "--socket", s.Socket)
	screen.AwaitText("ftpgate: top cannot draw on this terminal (TERM=dumb)")
}

// wantSizes: the screen follows the size of the terminal.
func wantSizes(screen *harness.Screen) {
	screen.Resize(40, 10)
	screen.Await("40 columns", func(text string) bool {
		lines := strings.Split(text, "\n")
		return strings.HasSuffix(lines[0], "..") && len(lines[0]) == 40 && len(lines) == 11 &&
			strings.Contains(text, "192.168.5.")
	})
	screen.Resize(12, 3)
	screen.AwaitText("by rate\n")
	screen.Resize(80, 24)
	screen.AwaitText("? help  enter time line")
}

// Without --socket top finds every ftpgate and says which is which. One that hangs is shown as such, and one
// that is killed as ended; the others go on, with a real transfer.
func TestTopInstances(t *testing.T) {
	labtest.Need(t, "curl")
	s := newInstancesBed(t)
	harness.StopListening(t, s.Listener)
	peers.VSFTPD(t, s.Server(), harness.Forward4.Server, "anon_max_rate=20000")
	curl := exec.Command("curl", "-s", "-o", "/dev/null", "ftp://"+harness.Gateway4+"/"+peers.DownloadPath)
	if err := s.Client().Start(curl); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		curl.Process.Kill()
		_ = curl.Wait()
	})
	screen := harness.NewScreen(t, s.Gateway(), 120, 24)
	screen.RunProgram("", "top")
	screen.Await("three ftpgates and the transfer's rate", func(text string) bool {
		return strings.Contains(text, strings.TrimSuffix(s.annasForward, "\n")+", since ") &&
			strings.Contains(text, strings.TrimSuffix(s.run, "\n")+", since ") &&
			regexp.MustCompile(`(?m)^ +`+fmt.Sprint(s.Program.Cmd.Process.Pid)+
				` +\S+-1 +.* [1-9][0-9.]* kB .* RETR `).MatchString(text)
	})
	s.ofBert.Suspend()
	screen.AwaitText(strings.TrimSuffix(s.run, "\n") + ": has not answered for ")
	s.ofAnna.Kill()
	screen.AwaitText(strings.TrimSuffix(s.annasForward, "\n")+": has ended", "RETR ")
	s.ofBert.Signal(syscall.SIGCONT)
	screen.AwaitText(strings.TrimSuffix(s.run, "\n") + ", since ")
	screen.Press("C-c")
	screen.AwaitPrompt()
}

// An ftpgate crashes and starts again while top looks at it. With --socket the screen says why it does not
// answer, keeps a time line that was open, and shows the new one. Without, it says that one has ended, and
// the new one comes by itself.
func TestTopRestart(t *testing.T) {
	st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4))
	ownRun(t)
	forward := harness.Start(t, s.Host, "forward", "192.168.5.2:2122", harness.Server4).AwaitReady()
	fixed := harness.NewScreen(t, s.Host, 80, 24)
	found := harness.NewScreen(t, s.Host, 80, 24)
	st.Login()
	fixed.RunProgram("", "top", "--socket", s.Socket, "--interval", "200ms")
	found.RunProgram("", "top", "--interval", "200ms")
	found.AwaitText("1 forward\n", "? help")
	fixed.AwaitText("1 session,", "alice")
	before := s.Sessions()[0].ID
	fixed.Press("Enter")
	fixed.AwaitText("verdict", before, "command      USER")

	s.Kill()
	fixed.AwaitText("this is the last that was heard: ftpgate is not running", "command      USER")
	fixed.Press("q")
	fixed.AwaitText(": does not answer: ")
	forward.Kill()
	found.AwaitText("leads to 203.0.113.21:21: has ended", "no ftpgate is running here; waiting for one")

	s.Program = harness.Start(t, s.Host, "run", "-c", s.ConfigFile).AwaitReady()
	st.Program = s.Program
	fixed.Await("the new ftpgate, without a session", func(text string) bool {
		return strings.Contains(text, " 0 sessions,") && !strings.Contains(text, "does not answer") &&
			!strings.Contains(text, before)
	})
	st.Login()
	fixed.AwaitText("1 session,", "alice", s.Sessions()[0].ID)
	harness.Start(t, s.Host, "forward", "192.168.5.2:2122", harness.Server4).AwaitReady()
	found.Await("the new forward", func(text string) bool {
		return strings.Contains(text, "1 forward\n") && !strings.Contains(text, "waiting for one")
	})
	for _, screen := range []*harness.Screen{fixed, found} {
		screen.Press("q")
		screen.AwaitPrompt()
	}
}
