package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab"
)

// terminal is a pseudo-terminal (pty(7)) of a size: the end that the test holds, and the program's.
func terminal(t *testing.T, columns, rows uint16) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows})
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// onTerminal runs a command with its output on a terminal of 80 columns.
func onTerminal(t *testing.T, h *lab.Host, cmd *exec.Cmd) *program {
	t.Helper()
	ours, theirs := terminal(t, 80, 24)
	return printing(t, h, cmd, ours, theirs)
}

// piped runs a command with its output in a pipe.
func piped(t *testing.T, h *lab.Host, cmd *exec.Cmd) *program {
	t.Helper()
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return printing(t, h, cmd, ours, theirs)
}

// printing runs a command, of which what it prints is read. Its own end of that is closed here.
func printing(t *testing.T, h *lab.Host, cmd *exec.Cmd, ours, theirs *os.File) *program {
	t.Helper()
	cmd.Stdout, cmd.Stderr = theirs, theirs
	p := &program{t: t, cmd: cmd, done: make(chan struct{}), news: make(chan struct{})}
	err := h.Start(cmd)
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	go p.read(ours) // a terminal ends with EIO when nobody has its other end
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.done
	})
	return p
}

// eventful is a session of which there is much to tell: it has a transfer that runs, and one that was refused.
func (s *stage) eventful(name string) begun {
	s.t.Helper()
	p := s.connect()
	p.server.say("220 %s", strings.Repeat("a greeting that has no end ", 12))
	p.client.hear("220")
	p.ask("USER "+name, "331 and the password")
	p.ask("PASS "+scriptPassword, "230 welcome")
	p.ask("CWD /"+strings.Repeat("directory", 20), "550 no \x1b[31mred\x1b[0m")
	p.client.say("PORT 192,168,5,77,200,1") // somebody else's
	p.client.hear("5")
	return p.retrieve(netip.Addr{})
}

// What people read has room on a terminal, and is aligned and unabridged in a pipe; neither gets escape codes.
func TestShowScreen(t *testing.T) {
	t.Parallel()
	name := "a-user-with-a-name-of-some-length"
	st, s := newShownStage(t, fmt.Sprintf(oneForward, "a-forward-with-a-long-name", gateway4)+fmt.Sprintf(oneForward, "b", "192.168.5.2:2122"))
	st.login()
	b := st.eventful(name + "\x1b[2J\x07é")
	b.carry(payload(300_000))
	one := s.awaitSession("the transfer", func(one seen) bool { return one.Transfer != nil && one.Transfer.Bytes == 300_000 })
	for _, words := range [][]string{{"status"}, {"sessions"}, {"sessions", "--ended"}, {"explain", one.ID}} {
		what := strings.Join(words, " ")
		p := onTerminal(t, s.host, s.asking(words[0], words[1:]...))
		if got := p.end(); got != 0 {
			t.Errorf("%s: got exit status %d; want 0", what, got)
		}
		onScreen, inPipe := p.text(), s.answer(words[0], words[1:]...)
		for line := range strings.Lines(onScreen) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\r\n")); n > 80 {
				t.Errorf("%s on a terminal: got a line of %d columns: %q", what, n, line)
			}
		}
		for where, text := range map[string]string{"on a terminal": onScreen, "in a pipe": inPipe} {
			if strings.ContainsAny(text, "\x1b\x07") || !utf8.ValidString(text) {
				t.Errorf("%s %s: got control characters in\n%q", what, where, text)
			}
		}
		if words[0] != "status" {
			wantLines(t, onScreen, one.ID)
			wantLines(t, inPipe, one.ID, "a-forward-with-a-long-name", name)
		}
	}
	table := strings.Split(s.answer("sessions"), "\n")
	at := strings.Index(table[0], "STATE")
	if len(table) != 4 || at < 0 || !strings.HasPrefix(table[1][at:], "idle") || !strings.HasPrefix(string([]rune(table[2])[at:]), "transfer") {
		t.Errorf("got the table\n%s\nwant the states below each other", strings.Join(table, "\n"))
	}
}

// Watching shows what changes, and ends with Ctrl-C, or when nobody is there to be asked any more.
func TestShowWatch(t *testing.T) {
	t.Parallel()
	st, s := newShownStage(t, fmt.Sprintf(oneForward, "files", gateway4))
	screen := onTerminal(t, s.host, s.asking("sessions", "--watch"))
	pipe := piped(t, s.host, s.asking("sessions", "--watch"))
	asJSON := piped(t, s.host, s.asking("sessions", "--watch", "--json"))
	screen.await("  0 sessions", 1)
	pipe.await("  0 sessions", 1)
	p := st.login()
	for _, watch := range []*program{screen, pipe} {
		watch.await("  1 session", 1)
		watch.await("somebody", 1)
	}
	asJSON.await(`"state":"idle"`, 1)
	b := p.retrieve(netip.Addr{})
	b.carry(payload(300_000))
	screen.await("down 300 kB", 1)
	pipe.await("down 300 kB", 1)
	asJSON.await(`"bytes":300000`, 1)
	for what, watch := range map[string]*program{"on a terminal": screen, "as JSON": asJSON} {
		watch.signal(syscall.SIGINT)
		if got := watch.end(); got != 0 {
			t.Errorf("watching %s: got exit status %d after SIGINT; want 0", what, got)
		}
	}
	if strings.Contains(pipe.text(), "\x1b") || !strings.Contains(screen.text(), "\x1b[H") || strings.Contains(asJSON.text(), "\x1b") {
		t.Errorf("got\n%q\nin a pipe, and\n%q\non a terminal; want the terminal alone drawn anew", pipe.text(), screen.text())
	}
	s.kill()
	if got := pipe.end(); got != 1 {
		t.Errorf("watching nobody: got exit status %d; want 1", got)
	}
}
