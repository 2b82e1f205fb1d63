package observe

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// onTerminal runs a command with its output on a terminal of 80 columns.
func onTerminal(t *testing.T, h *lab.Host, cmd *exec.Cmd) *harness.Program {
	t.Helper()
	ours, theirs := harness.NewTerminal(t, 80, 24)
	return harness.StartWithOutput(t, h, cmd, ours, theirs)
}

// piped runs a command with its output in a pipe.
func piped(t *testing.T, h *lab.Host, cmd *exec.Cmd) *harness.Program {
	t.Helper()
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return harness.StartWithOutput(t, h, cmd, ours, theirs)
}

// startLongSession starts a session with long texts, a refused command and a running transfer.
func startLongSession(s *harness.Testbed, name string) harness.Transfer {
	s.T.Helper()
	p := s.Connect()
	p.Server.Send("220 %s", strings.Repeat("a greeting that has no end ", 12))
	p.Client.Expect("220")
	p.Exchange("USER "+name, "331 and the password")
	p.Exchange("PASS "+harness.Password, "230 welcome")
	p.Exchange("CWD /"+strings.Repeat("directory", 20), "550 no \x1b[31mred\x1b[0m")
	p.Client.Send("PORT 192,168,5,77,200,1") // not the client's own address
	p.Client.Expect("5")
	return p.Retrieve(netip.Addr{})
}

// Output fits a terminal, and is aligned and complete in a pipe. Neither has escape codes.
func TestTerminal(t *testing.T) {
	t.Parallel()
	name := "a-user-with-a-name-of-some-length"
	st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig, "a-forward-with-a-long-name",
		harness.Gateway4)+fmt.Sprintf(harness.ForwardConfig, "b", "192.168.5.2:2122"))
	st.Login()
	b := startLongSession(st, name+"\x1b[2J\x07é")
	b.Carry(harness.RandomBytes(300_000))
	one := s.AwaitSession("the transfer", func(one harness.SessionInfo) bool {
		return one.Transfer != nil &&
			one.Transfer.Bytes >= 300_000
	})
	for _, words := range [][]string{{"status"}, {"sessions"}, {"sessions", "--ended"}, {"explain", one.ID}} {
		what := strings.Join(words, " ")
		p := onTerminal(t, s.Host, s.Command(words[0], words[1:]...))
		if got := p.Wait(); got != 0 {
			t.Errorf("%s: got exit status %d; want 0", what, got)
		}
		onScreen, inPipe := p.Log(), s.Output(words[0], words[1:]...)
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
			harness.WantContains(t, onScreen, one.ID)
			harness.WantContains(t, inPipe, one.ID, "a-forward-with-a-long-name", name)
		}
	}
	table := strings.Split(s.Output("sessions"), "\n")
	at := strings.Index(table[0], "STATE")
	if len(table) != 4 || at < 0 || !strings.HasPrefix(table[1][at:], "idle") ||
		!strings.HasPrefix(string([]rune(table[2])[at:]), "transfer") {
		t.Errorf("got the table\n%s\nwant the states below each other", strings.Join(table, "\n"))
	}
}

// --watch prints changes, and ends with Ctrl-C or when ftpgate ends.
func TestWatch(t *testing.T) {
	t.Parallel()
	// The relay: during a transfer the kernel counts packets that were sent twice.
	st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = \"relay\"\n", "files",
		harness.Gateway4))
	screen := onTerminal(t, s.Host, s.Command("sessions", "--watch"))
	pipe := piped(t, s.Host, s.Command("sessions", "--watch"))
	asJSON := piped(t, s.Host, s.Command("sessions", "--watch", "--json"))
	screen.AwaitLog("  0 sessions", 1)
	pipe.AwaitLog("  0 sessions", 1)
	p := st.Login()
	for _, watch := range []*harness.Program{screen, pipe} {
		watch.AwaitLog("  1 session", 1)
		watch.AwaitLog("alice", 1)
	}
	asJSON.AwaitLog(`"state":"idle"`, 1)
	b := p.Retrieve(netip.Addr{})
	b.Carry(harness.RandomBytes(300_000))
	screen.AwaitLog("down 300 kB", 1)
	pipe.AwaitLog("down 300 kB", 1)
	asJSON.AwaitLog(`"bytes":300000`, 1)
	for what, watch := range map[string]*harness.Program{"on a terminal": screen, "as JSON": asJSON} {
		watch.Signal(syscall.SIGINT)
		if got := watch.Wait(); got != 0 {
			t.Errorf("watching %s: got exit status %d after SIGINT; want 0", what, got)
		}
	}
	if strings.Contains(pipe.Log(), "\x1b") || !strings.Contains(screen.Log(), "\x1b[H") ||
		strings.Contains(asJSON.Log(), "\x1b") {
		t.Errorf("got\n%q\nin a pipe, and\n%q\non a terminal; want the terminal alone drawn anew", pipe.Log(),
			screen.Log())
	}
	s.Kill()
	if got := pipe.Wait(); got != 1 {
		t.Errorf("watching no session: got exit status %d; want 1", got)
	}
}
