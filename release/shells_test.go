package main

import (
	"context"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// shell is a shell as its users have it.
type shell struct {
	name    string
	command string
	prepare string // what its users type once, for completions
}

var shells = []shell{
	{name: "bash", command: "bash --login"},
	{name: "zsh", command: "zsh", prepare: "autoload -U compinit; compinit"},
	{name: "fish", command: "fish"},
}

// answerTime is how long a shell may take for all that is typed before a test gives it up: seconds, and
// minutes on a busy machine.
const answerTime = 15 * time.Minute

// completes types in a shell, at a terminal, and wants the Tab key to offer the values of the system.
func (r root) completes(s shell) {
	r.Helper()
	defer r.connected()()
	session := r.run(`ftpgate sessions --json | sed -n 's/^ *"id": "\([^"]*\)".*/\1/p'`)
	term := r.terminal(s.command)
	defer term.close()
	term.typed(s.prepare + "\n")
	for _, tt := range []struct {
		typed string
		want  []string
	}{
		{"ftpgate forward --tracking ", []string{"proxy", "kernel", "none"}},
		{"ftpgate forward --interface ", []string{"lan0", "wan0"}},
		{"ftpgate doctor ", []string{"archive", "plc"}},
		{"ftpgate sessions --forward ", []string{"archive", "plc"}},
		{"ftpgate explain ", []string{session}},
		{"ftpgate kill ", []string{session}},
		{"ftpgate che", []string{"check "}},
		{"ftpgate run -c /etc/ftpgate/ftpg", []string{"/etc/ftpgate/ftpgate.toml"}},
	} {
		// Ctrl-U empties the line. The shell prints the word without the quotes that it is typed with.
		term.typed("\x15echo re''ady\n")
		term.shows("ready")
		term.typed(tt.typed + "\t\t")
		term.shows(tt.want...)
	}
}

// connected has the client connect and say no more, and returns a function that ends this session.
func (r root) connected() (end func()) {
	r.Helper()
	ctx, stop := context.WithCancel(r.Context())
	client := r.command(ctx, "exec ip netns exec client bash -c '"+
		"exec 3<>/dev/tcp/192.168.5.2/2121; read -r greeting <&3; echo greeted; exec sleep infinity'")
	stdout, err := client.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := client.Start(); err != nil {
		r.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("greeted\n"))); err != nil {
		r.Fatal(err)
	}
	return func() {
		stop()
		client.Wait() // killed
	}
}

// terminal is a program at a terminal, which script(1) makes.
type terminal struct {
	root
	cmd    *exec.Cmd
	stop   func()
	keys   io.Writer
	screen io.Reader
	shown  string // since the last word that a test waited for
}

func (r root) terminal(command string) *terminal {
	r.Helper()
	ctx, stop := context.WithTimeout(r.Context(), answerTime)
	cmd := r.command(ctx, "exec script --quiet --flush --return --command 'stty cols 200 rows 50; exec "+
		command+"' /dev/null")
	keys, err := cmd.StdinPipe()
	if err != nil {
		r.Fatal(err)
	}
	screen, err := cmd.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	return &terminal{root: r, cmd: cmd, stop: stop, keys: keys, screen: screen}
}

func (t *terminal) close() {
	t.stop()
	t.cmd.Wait() // killed
}

func (t *terminal) typed(text string) {
	t.Helper()
	if _, err := io.WriteString(t.keys, text); err != nil {
		t.Fatal(err)
	}
}

// escape matches what a shell says to its terminal beside text.
var escape = regexp.MustCompile(
	"\x1b(\\[[0-9;?>=]*[a-zA-Z]|[()][A-Z0-9]|[=>78]|\\][^\x07\x1b]*(\x07|\x1b\\\\))")

// shows waits until all the words are on the terminal.
func (t *terminal) shows(words ...string) {
	t.Helper()
	for b := make([]byte, 4096); ; {
		text := escape.ReplaceAllString(t.shown, "")
		missing := slices.DeleteFunc(slices.Clone(words), func(word string) bool {
			return strings.Contains(text, word)
		})
		if len(missing) == 0 {
			t.shown = ""
			return
		}
		n, err := t.screen.Read(b)
		if err != nil {
			t.Fatalf("got\n%q\nand then %v; want %q", text, err, missing)
		}
		t.shown += string(b[:n])
	}
}
