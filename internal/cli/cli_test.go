package cli

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
)

// TestHelp: every command prints its help on the standard output, with exit status 0.
func TestHelp(t *testing.T) {
	visited := 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		visited++
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		t.Run(c.CommandPath(), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if got := Main(args, strings.NewReader(""), &stdout, &stderr); got != 0 || stderr.Len() > 0 {
				t.Errorf("got exit status %d, %q on stderr; want 0 and nothing", got, &stderr)
			}
			for _, want := range []string{"Usage:\n  " + c.CommandPath(), "-h, --help"} {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("got\n%s\nwant %q in it", &stdout, want)
				}
			}
			if c.Short == "" {
				t.Error("got no line in the list of commands; want one")
			}
			for line := range strings.Lines(stdout.String()) {
				if n := len(strings.TrimRight(line, "\n")); n > 120 {
					t.Errorf("got a line of %d characters; want no more than a terminal has:\n%s", n, line)
				}
			}
		})
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				visit(sub)
			}
		}
	}
	visit(newRoot())
	if visited < 10 {
		t.Errorf("got %d commands; want all of them", visited)
	}
}

// TestExamples: the commands accept the examples of their help.
func TestExamples(t *testing.T) {
	for _, c := range []*cobra.Command{newForward(), newLab()} {
		for line := range strings.SplitSeq(c.Example, "\n") {
			words := strings.Fields(line)
			if len(words) < 2 || words[0] != "ftpgate" {
				t.Errorf("got the example %q; want one of ftpgate", line)
				continue
			}
			// "lab exec HOST ftpgate ..." has another example in it.
			if i := lastIndex(words, "ftpgate"); i > 0 {
				words = words[i:]
			}
			found, rest, err := newRoot().Find(words[1:])
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			if found.DisableFlagParsing {
				continue
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

func lastIndex(words []string, word string) int {
	for i := len(words) - 1; i >= 0; i-- {
		if words[i] == word {
			return i
		}
	}
	return -1
}

// TestKeyFlags: forward has a flag for each key, and the default in its help holds.
func TestKeyFlags(t *testing.T) {
	without, err := fromFlags(":2121", "203.0.113.21", nil)
	if err != nil {
		t.Fatal(err)
	}
	without.Health = 0 // which forward has only if it is given
	cmd := newForward()
	for _, k := range keyFlags(config.ForwardKeys()) {
		flag := cmd.Flags().Lookup(k.Flag())
		if flag == nil {
			t.Errorf("%s: got no flag --%s; want one", k.Name, k.Flag())
			continue
		}
		if flag.DefValue == "" {
			continue
		}
		k.given = []string{flag.DefValue}
		with, err := fromFlags(":2121", "203.0.113.21", []*keyFlag{k})
		if err != nil {
			t.Errorf("--%s %s: %v", k.Flag(), flag.DefValue, err)
			continue
		}
		if k.Name != "health" {
			with.Health = 0
		}
		with.Admin.GroupGiven = false
		got, want := with.Forwards[0], without.Forwards[0]
		got.Limits, want.Limits = got.Limits.OrDefault(), want.Limits.OrDefault()
		got.PassivePorts, want.PassivePorts = got.DataPorts(), want.DataPorts()
		with.Forwards = nil
		rest := *without
		rest.Forwards = nil
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(*with, rest) {
			t.Errorf("--%s %s: got %+v, %+v; want what holds without it, %+v, %+v",
				k.Flag(), flag.DefValue, got, *with, want, rest)
		}
	}
}

// TestBooleanFlags: a flag that is true or false needs no value, and accepts one after "=".
func TestBooleanFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string // what --tls-implicit is given
	}{
		{nil, nil},
		{[]string{"--tls-implicit"}, []string{"true"}},
		{[]string{"--tls-implicit=true"}, []string{"true"}},
		{[]string{"--tls-implicit", "--tls-implicit=false"}, []string{"false"}},
		{[]string{"--tls-implicit=maybe"}, []string{"maybe"}}, // which config refuses
	} {
		flags := keyFlags(config.ForwardKeys())
		cmd := &cobra.Command{}
		addKeyFlags(cmd, flags)
		if err := cmd.ParseFlags(tt.args); err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		i := slices.IndexFunc(flags, func(k *keyFlag) bool { return k.Name == "tls.implicit" })
		if got := flags[i].given; !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q; want %q", tt.args, got, tt.want)
		}
		if rest := cmd.Flags().Args(); len(rest) > 0 {
			t.Errorf("%q: got the words %q; want none", tt.args, rest)
		}
	}
}

// TestForwardTable: each listen address has a table of its own. Its name is valid for nft, and begins as all
// of ftpgate's tables.
func TestForwardTable(t *testing.T) {
	seen := map[string]forward.Listen{}
	for _, tt := range []struct {
		listen forward.Listen
		want   string
	}{
		{forward.Listen{Port: 2121}, "ftpgate-any-2121"},
		{forward.Listen{Port: 2121, Interface: "lan0"}, "ftpgate-any-2121-lan0"},
		{forward.Listen{Port: 2121, Interface: "eth0.100"}, "ftpgate-any-2121-eth0.100"},
		{forward.Listen{Port: 2121, Interface: "br@1"}, "ftpgate-any-2121-br_1"},
		{forward.Listen{Addr: netip.MustParseAddr("192.168.5.2"), Port: 2121}, "ftpgate-192.168.5.2-2121"},
		{forward.Listen{Addr: netip.MustParseAddr("192.168.5.2"), Port: 212}, "ftpgate-192.168.5.2-212"},
		{forward.Listen{Addr: netip.MustParseAddr("2001:db8:5::2"), Port: 2121},
			"ftpgate-2001.db8.5..2-2121"},
	} {
		got := forwardTable(tt.listen)
		if got != tt.want || !ruleset.OwnTable(got) {
			t.Errorf("table of %s: got %q; want %q, one of ftpgate's own", tt.listen, got, tt.want)
		}
		if other, taken := seen[got]; taken {
			t.Errorf("table %q belongs to %s and %s", got, tt.listen, other)
		}
		seen[got] = tt.listen
	}
}

// TestLoggerTimes: journald adds times itself; a log that goes elsewhere has them.
func TestLoggerTimes(t *testing.T) {
	journal, elsewhere := logFile(t), logFile(t)
	info, err := journal.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	for _, tt := range []struct {
		f    *os.File
		want bool
	}{{journal, false}, {elsewhere, true}} {
		logger(tt.f, config.Log{}, nil).WithGroup("g").Info("ready", "time", "kept too")
		got, err := os.ReadFile(tt.f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if timed := strings.HasPrefix(string(got), "time=2"); timed != tt.want {
			t.Errorf("got %q; want a time before it: %t", got, tt.want)
		}
		if !strings.Contains(string(got), `g.time="kept too"`) {
			t.Errorf("got %q; want other attributes of that name kept", got)
		}
	}
}

// TestLogger: the log has the format and the lines that the configuration asks for.
func TestLogger(t *testing.T) {
	for _, tt := range []struct {
		log  config.Log
		want string
	}{
		{config.Log{}, "level=INFO msg=published\nlevel=WARN msg=refused\n"},
		{config.Log{Level: slog.LevelDebug},
			"level=DEBUG msg=line\nlevel=INFO msg=published\nlevel=WARN msg=refused\n"},
		{config.Log{Level: slog.LevelError}, ""},
		{config.Log{JSON: true, Level: slog.LevelWarn}, `{"level":"WARN","msg":"refused"}` + "\n"},
	} {
		var out strings.Builder
		log := logger(&out, tt.log, nil)
		log.Debug("line")
		log.Info("published")
		log.Warn("refused")
		got := regexp.MustCompile(`time=\S+ |"time":"[^"]*",`).ReplaceAllString(out.String(), "")
		if got != tt.want {
			t.Errorf("%+v: got %q; want %q", tt.log, got, tt.want)
		}
	}
}

// TestLogFlags: the flags win over the file.
func TestLogFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want config.Log
		err  string
	}{
		{nil, config.Log{JSON: true, Level: slog.LevelError}, ""},
		{[]string{"--log-format", "text", "--log-level=debug"}, config.Log{Level: slog.LevelDebug}, ""},
		{[]string{"-q"}, config.Log{JSON: true, Level: slog.LevelWarn}, ""},
		{[]string{"-q", "--log-level", "info"}, config.Log{},
			"--quiet is --log-level warn: give one of them"},
		{[]string{"--log-level", "wran"}, config.Log{}, `unknown --log-level "wran": did you mean "warn"?`},
	} {
		l, cmd := &logFlags{}, &cobra.Command{}
		l.addKeys(cmd)
		l.addQuiet(cmd)
		c := &config.Config{Log: config.Log{JSON: true, Level: slog.LevelError}}
		err := errors.Join(cmd.ParseFlags(tt.args), l.apply(cmd, c))
		if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err || err == nil &&
			c.Log != tt.want {
			t.Errorf("%q: got %+v, error %v; want %+v, %q", tt.args, c.Log, err, tt.want, tt.err)
		}
	}
}

func logFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
