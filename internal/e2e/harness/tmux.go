package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// Screen is a terminal of tmux(1), with a shell on it. A test types keys and reads what is to be seen.
type Screen struct {
	T      *testing.T
	host   *lab.Host
	socket string // of the tmux server
}

// prompt is the shell's.
const prompt = "ready$"

// NewScreen starts a shell on a terminal of a size on a host, until the test ends. env is more of its
// environment.
func NewScreen(t *testing.T, h *lab.Host, columns, rows int, env ...string) *Screen {
	t.Helper()
	labtest.Need(t, "tmux")
	s := &Screen{t, h, filepath.Join(ShortDir(t), "tmux")}
	shell := []string{"env", "PS1=" + prompt + " ", "ENV="}
	shell = append(append(shell, env...), "sh", "-i")
	s.tmux(append([]string{"-f", "/dev/null", "new-session", "-d", "-x", strconv.Itoa(columns), "-y",
		strconv.Itoa(rows)}, shell...)...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen at the end:\n%s", s.Text())
		}
		s.tmux("kill-server")
	})
	s.Await("the prompt", func(screen string) bool { return strings.Contains(screen, prompt) })
	return s
}

func (s *Screen) tmux(args ...string) string {
	s.T.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-S", s.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color", "TMUX=")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := s.host.Run(cmd); err != nil {
		s.T.Fatalf("tmux %q: %v: %s", args, err, &errs)
	}
	return out.String()
}

// Text returns what the screen shows: a line for each row, without spaces at its end.
func (s *Screen) Text() string { s.T.Helper(); return s.tmux("capture-pane", "-p") }

// Styled returns Text with the control sequences for styles.
func (s *Screen) Styled() string { s.T.Helper(); return s.tmux("capture-pane", "-p", "-e") }

// Press presses keys, as tmux(1) names them ("Down", "C-c"); a text is typed.
func (s *Screen) Press(keys ...string) {
	s.T.Helper()
	s.tmux(append([]string{"send-keys"}, keys...)...)
}

// Type types a text.
func (s *Screen) Type(text string) { s.T.Helper(); s.tmux("send-keys", "-l", text) }

// RunProgram types a command that runs ftpgate with arguments, and Enter.
func (s *Screen) RunProgram(before string, args ...string) {
	s.T.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.T.Fatal(err)
	}
	s.Type(strings.Join(append([]string{before, programEnv + "=1", exe}, args...), " "))
	s.Press("Enter")
}

// Resize gives the terminal another size.
func (s *Screen) Resize(columns, rows int) {
	s.T.Helper()
	s.tmux("resize-window", "-x", strconv.Itoa(columns), "-y", strconv.Itoa(rows))
}

// Await waits until the screen is as a test wants it.
func (s *Screen) Await(what string, as func(screen string) bool) {
	s.T.Helper()
	Await(s.T, what, func() bool { return as(s.Text()) })
}

// AwaitText waits until the screen has all these texts.
func (s *Screen) AwaitText(texts ...string) {
	s.T.Helper()
	s.Await("a screen with "+strings.Join(texts, " and "), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// AwaitPrompt waits until the shell has the terminal again, with nothing else on its last line.
func (s *Screen) AwaitPrompt() {
	s.T.Helper()
	s.Await("the prompt", func(screen string) bool {
		lines := strings.Split(strings.TrimRight(screen, "\n"), "\n")
		return lines[len(lines)-1] == prompt
	})
}
