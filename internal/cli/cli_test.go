package cli

import (
	"bytes"
	"fmt"
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

// TestHelp: every command says what it is for, on the standard output, with exit status 0.
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

// TestExamples: the examples of the help are words that the commands take.
func TestExamples(t *testing.T) {
	for _, c := range []*cobra.Command{newForward(), newLab()} {
		for line := range strings.SplitSeq(c.Example, "\n") {
			words := strings.Fields(line)
			if len(words) < 2 || words[0] != "ftpgate" {
				t.Errorf("got the example %q; want one of ftpgate", line)
				continue
			}
			// "lab exec HOST ftpgate ..." has an example within.
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

// TestKeyFlags: the flags of forward are the keys of the file, and what the help says of their defaults holds.
func TestKeyFlags(t *testing.T) {
	var flags []string
	keys := referenceKeys()
	without, err := fromWords(":2121", "203.0.113.21", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keyFlags() {
		flags = append(flags, k.key)
		if k.implied == "" {
			continue
		}
		k.given = []string{k.implied}
		with, err := fromWords(":2121", "203.0.113.21", []*keyFlag{k})
		if err != nil {
			t.Errorf("--%s %s: %v", flagName(k.key), k.implied, err)
			continue
		}
		got, want := with.Forwards[0], without.Forwards[0]
		got.Limits, want.Limits = got.Limits.OrDefault(), want.Limits.OrDefault()
		got.PassivePorts, want.PassivePorts = got.PortsForData(), want.PortsForData()
		if !reflect.DeepEqual(got, want) || with.Drain != without.Drain || with.Resolve != without.Resolve {
			t.Errorf("--%s %s: got %+v; want what holds without it, %+v", flagName(k.key), k.implied, with, without)
		}
	}
	slices.Sort(keys)
	slices.Sort(flags)
	if !slices.Equal(flags, keys) {
		t.Errorf("got flags for %q; want %q, the keys of the reference file", flags, keys)
	}
}

// referenceKeys are the keys of the reference file but LISTEN and SERVER, those of the table tls with its name.
func referenceKeys() []string {
	var keys []string
	table := ""
	for _, m := range regexp.MustCompile(`(?m)^(?:\[+([a-z.]+)\]|([a-z_]+) *=)`).FindAllStringSubmatch(config.Reference, -1) {
		if m[1] != "" {
			table = strings.TrimPrefix(strings.TrimPrefix(m[1], "forward")+".", ".")
			continue
		}
		key := table + m[2]
		if key != "listen" && key != "server" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestBooleanFlags: a flag that is true or false needs no value, and takes one behind "=".
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
		flags := keyFlags()
		cmd := &cobra.Command{}
		addKeyFlags(cmd, flags)
		if err := cmd.ParseFlags(tt.args); err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		i := slices.IndexFunc(flags, func(k *keyFlag) bool { return k.key == "tls.implicit" })
		if got := flags[i].given; !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q; want %q", tt.args, got, tt.want)
		}
		if rest := cmd.Flags().Args(); len(rest) > 0 {
			t.Errorf("%q: got the words %q; want none", tt.args, rest)
		}
	}
}

// TestForwardTable: each listen address has a table of its own, whose name nft can read and that is
// known as one of ftpgate's.
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
		{forward.Listen{Addr: netip.MustParseAddr("2001:db8:5::2"), Port: 2121}, "ftpgate-2001.db8.5..2-2121"},
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

// TestLoggerTimes: journald has times of its own; a log that is redirected elsewhere keeps them.
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
		logger(tt.f).WithGroup("g").Info("ready", "time", "kept too")
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

func logFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
