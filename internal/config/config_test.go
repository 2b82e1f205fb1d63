package config

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ftpgate/internal/dnat"
)

var update = flag.Bool("update", false, "write the messages of testdata/*.toml into testdata/*.want")

// TestFaults asserts the whole message for each bad file of testdata.
func TestFaults(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("got %d files, error %v; want bad files", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".toml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(filepath.Base(path), bytes.NewReader(text))
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %+v, error %v; want Faults", c, err)
			}
			got := err.Error() + "\n"
			golden := strings.TrimSuffix(path, ".toml") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	const text = `
resolve = "2m"

[[forward]]
name   = "archive"
listen = "192.168.5.2:2121"
server = "ftp.example.com"

[[forward]]
interface = "lan0"
listen    = "2122"
server    = "[2001:db8::21]:2100"
clients   = ["192.168.5.0/24", "2001:db8:5::7"]

["forward"]
`
	vault := `
[[ "forward" ]]
'name' = '''vault'''
listen = """[2001:db8:5::2]:990"""
server = "2001:db8::22" # port 21
tracking = "none"
server_ports = "50000-50100"
`
	want := &Config{
		Resolve: 2 * time.Minute,
		Forwards: []dnat.Forward{{
			Name:   "archive",
			Listen: dnat.Listen{Addr: netip.MustParseAddr("192.168.5.2"), Port: 2121},
			Server: dnat.Server{Host: "ftp.example.com", Port: 21},
		}, {
			Name:    ":2122 on lan0",
			Listen:  dnat.Listen{Port: 2122, Interface: "lan0"},
			Server:  dnat.Server{Host: "2001:db8::21", Port: 2100},
			Clients: []netip.Prefix{netip.MustParsePrefix("192.168.5.0/24"), netip.MustParsePrefix("2001:db8:5::7/128")},
		}, {
			Name:        "vault",
			Listen:      dnat.Listen{Addr: netip.MustParseAddr("2001:db8:5::2"), Port: 990},
			Server:      dnat.Server{Host: "2001:db8::22", Port: 21},
			Tracking:    dnat.TrackingNone,
			ServerPorts: dnat.PortRange{First: 50000, Last: 50100},
		}},
	}
	unix := strings.Replace(text, "[\"forward\"]\n", vault, 1)
	for name, text := range map[string]string{
		"LF":              unix,
		"CRLF":            strings.ReplaceAll(unix, "\n", "\r\n"),
		"BOM":             "\xef\xbb\xbf" + unix,
		"no last newline": strings.TrimSpace(unix),
	} {
		got, err := Parse("f.toml", strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: got error %v; want none", name, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got, want)
		}
	}
}

// TestParseInline: a forward may stand in one line, and resolve may be left out.
func TestParseInline(t *testing.T) {
	got, err := Parse("f.toml", strings.NewReader(`forward = [ # all of them
		{ listen = ":2121", server = "a.example" }, { "listen" = ":2122", server = "b.example" } ]`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Resolve != DefaultResolve || len(got.Forwards) != 2 || got.Forwards[1].Name != ":2122" {
		t.Errorf("got %+v; want two forwards, resolved every %s", got, DefaultResolve)
	}
}

// TestFaultFields: what a program reads of a fault.
func TestFaultFields(t *testing.T) {
	_, err := Parse("f.toml", strings.NewReader("[[forward]]\nlisten = \":0\"\nserver = \"a\"\n"))
	want := Faults{{File: "f.toml", Line: 2, Column: 10, Key: "listen",
		Text: `forward 1: listen ":0": port 0 is not between 1 and 65535`}}
	if !reflect.DeepEqual(err, error(want)) {
		t.Errorf("got %#v; want %#v", err, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.toml")
	_, err := Load(missing)
	if want := "config: open " + missing + ": no such file or directory"; !errors.Is(err, fs.ErrNotExist) || err.Error() != want {
		t.Errorf("got %q; want %q", err, want)
	}
	if _, err = Load(dir); err == nil || err.Error() != "config: read "+dir+": is a directory" {
		t.Errorf("got %q; want that it is a directory", err)
	}
	path := filepath.Join(dir, "f.toml")
	if err := os.WriteFile(path, []byte("[[forward]]\nlisten = \":21\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(path)
	want := path + ":1:1: forward 1: server is missing: say which server they reach, like server = \"ftp.example.com:21\""
	if err == nil || err.Error() != want {
		t.Errorf("got %q; want %q", err, want)
	}
}

func TestParseReadError(t *testing.T) {
	broken := errors.New("broken disk")
	_, err := Parse("f.toml", iotest.ErrReader(broken))
	if want := "config: read f.toml: broken disk"; !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("got %q; want %q", err, want)
	}
}

// endless is a text without an end, such as /dev/zero.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
	}
	return len(p), nil
}

func TestParseTooLarge(t *testing.T) {
	_, err := Parse("f.toml", endless{})
	if want := "f.toml:1:1: the file is larger than 16 MiB: is it a configuration file?"; err == nil || err.Error() != want {
		t.Errorf("got %q; want %q", err, want)
	}
	head := "[[forward]]\nlisten = \":21\"\nserver = \"a\"\n"
	if _, err = Parse("f.toml", io.MultiReader(strings.NewReader(head), io.LimitReader(endless{}, maxSize-int64(len(head))))); err != nil {
		t.Errorf("got error %v for %d MiB; want none", err, maxSize>>20)
	}
}

// TestReference: the reference file is sound and shows every key.
func TestReference(t *testing.T) {
	c, err := Parse("ftpgate.toml", strings.NewReader(Reference))
	if err != nil {
		t.Fatal(err)
	}
	if c.Resolve != DefaultResolve {
		t.Errorf("got resolve %s; want the default, %s", c.Resolve, DefaultResolve)
	}
	d := newDocument([]byte(Reference))
	d.read()
	if !d.top[topResolve].given {
		t.Errorf("resolve is not in the reference file")
	}
	for i, k := range forwardKeys {
		given := false
		for _, f := range d.forwards {
			given = given || f.slots[i].given
		}
		if !given {
			t.Errorf("%s is not in the reference file", k.name)
		}
	}
}

// TestExamples: what faults propose as an example can be used.
func TestExamples(t *testing.T) {
	for i, k := range forwardKeys {
		text := "[[forward]]\n" + k.name + " = " + k.want + "\n"
		d := newDocument([]byte(text))
		d.read()
		if len(d.findings) > 0 || !d.forwards[0].slots[i].given {
			t.Errorf("got %v for\n%s; want no fault", d.findings, text)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"listen", "listen"}, {"lissten", "listen"}, {"lisetn", "listen"}, {"LISTEN", "listen"}, {"sever", "server"},
		{"client", "clients"}, {"serverports", "server_ports"}, {"server-port", "server_ports"}, {"nam", "name"},
		{"", ""}, {"port", ""}, {"x", ""}, {"lan", ""}, {"listener_address", ""}, {strings.Repeat("listen", 1000), ""},
	} {
		if got := nearest(tt.word, forwardKeyNames()); got != tt.want {
			t.Errorf("nearest(%.20q): got %q; want %q", tt.word, got, tt.want)
		}
	}
	if got, want := trackings(), []string{"kernel", "none"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got trackings %q; want %q", got, want)
	}
}
