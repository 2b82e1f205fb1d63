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
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

var update = flag.Bool("update", false, "write the messages of testdata/*.toml into testdata/*.want, and "+
	"the keys into the documents")

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
			c, err := parse(filepath.Base(path), bytes.NewReader(text))
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
		Drain:   DefaultDrain, Health: DefaultHealth, Admin: defaultAdmin(),
		Forwards: []forward.Forward{{
			Name:   "archive",
			Listen: forward.Listen{Addr: netip.MustParseAddr("192.168.5.2"), Port: 2121},
			Server: forward.Server{Host: "ftp.example.com", Port: 21},
		}, {
			Name:   ":2122 on lan0",
			Listen: forward.Listen{Port: 2122, Interface: "lan0"},
			Server: forward.Server{Host: "2001:db8::21", Port: 2100},
			Clients: []netip.Prefix{netip.MustParsePrefix("192.168.5.0/24"),
				netip.MustParsePrefix("2001:db8:5::7/128")},
		}, {
			Name:        "vault",
			Listen:      forward.Listen{Addr: netip.MustParseAddr("2001:db8:5::2"), Port: 990},
			Server:      forward.Server{Host: "2001:db8::22", Port: 21},
			Tracking:    forward.TrackingNone,
			ServerPorts: forward.PortRange{First: 50000, Last: 50100},
		}},
	}
	unix := strings.Replace(text, "[\"forward\"]\n", vault, 1)
	wantParsed(t, unix, want)
}

// wantParsed wants a text parsed as want, whatever its line breaks are.
func wantParsed(t *testing.T, unix string, want *Config) {
	t.Helper()
	for name, text := range map[string]string{
		"LF":              unix,
		"CRLF":            strings.ReplaceAll(unix, "\n", "\r\n"),
		"BOM":             "\xef\xbb\xbf" + unix,
		"no last newline": strings.TrimSpace(unix),
	} {
		got, err := parse("f.toml", strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: got error %v; want none", name, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got, want)
		}
	}
}

// TestParseKeys: the keys of a proxy, at their bounds, and a forward without one.
func TestParseKeys(t *testing.T) {
	const text = `
drain = "0s"

[[forward]]
name = "proxy"
listen = "127.0.0.1:2121"
server = "127.0.0.1:21"
tracking = "proxy"
data = "relay"
passive_ports = "50200-50300"
advertise = ["ftp.example.net", "10.0.0.0/8=10.0.0.1"]
server_mode = "passive"
dial_time = "1s"
login_time = "1h"
idle_time = "168h"
max_sessions = 500_000
max_sessions_per_client = +1
client_ipv6_prefix = 128
max_login_failures = 100

[[forward]]
name = "kernel"
listen = "192.168.5.2:2123"
server = "203.0.113.7"
tracking = "kernel"
`
	want := &Config{Resolve: DefaultResolve, Drain: 0, Health: DefaultHealth, Admin: defaultAdmin(),
		Forwards: []forward.Forward{{
			Name:         "proxy",
			Listen:       forward.Listen{Addr: netip.MustParseAddr("127.0.0.1"), Port: 2121},
			Server:       forward.Server{Host: "127.0.0.1", Port: 21},
			Tracking:     forward.TrackingProxy,
			Data:         forward.DataRelay,
			PassivePorts: forward.PortRange{First: 50200, Last: 50300},
			Advertise: []forward.Advertise{{Host: "ftp.example.net"},
				{Clients: netip.MustParsePrefix("10.0.0.0/8"), Host: "10.0.0.1"}},
			ServerMode: forward.ServerModePassive,
			Limits: forward.Limits{Dial: time.Second, Login: time.Hour, Idle: 7 * 24 * time.Hour,
				Sessions: 500_000, PerClient: 1, IPv6Prefix: 128, LoginFailures: 100},
		}, {
			Name:     "kernel",
			Listen:   forward.Listen{Addr: netip.MustParseAddr("192.168.5.2"), Port: 2123},
			Server:   forward.Server{Host: "203.0.113.7", Port: 21},
			Tracking: forward.TrackingKernel,
		}}}
	got, err := parse("f.toml", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// TestParseInline: a forward may be in one line, and keys that are left out have their defaults.
func TestParseInline(t *testing.T) {
	got, err := parse("f.toml", strings.NewReader(`forward = [ # all of them
		{ listen = ":2121", server = "a.example" }, { "listen" = ":2122", server = "b.example" } ]`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{Resolve: DefaultResolve, Drain: DefaultDrain, Health: DefaultHealth,
		Admin: defaultAdmin(),
		Forwards: []forward.Forward{
			{Name: ":2121", Listen: forward.Listen{Port: 2121},
				Server: forward.Server{Host: "a.example", Port: 21}, Tracking: forward.TrackingProxy},
			{Name: ":2122", Listen: forward.Listen{Port: 2122},
				Server: forward.Server{Host: "b.example", Port: 21}, Tracking: forward.TrackingProxy},
		}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

// TestFaultFields: the fields of a fault, for programs.
func TestFaultFields(t *testing.T) {
	_, err := parse("f.toml", strings.NewReader("[[forward]]\nlisten = \":0\"\nserver = \"a\"\n"))
	want := Faults{{Place: finding.Place{File: "f.toml", Line: 2, Column: 10}, Key: "listen",
		Text: `forward 1: listen ":0": port 0 is not between 1 and 65535`}}
	if !reflect.DeepEqual(err, error(want)) {
		t.Errorf("got %#v; want %#v", err, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.toml")
	_, err := Load(missing)
	if want := "config: open " + missing + ": no such file or directory"; !errors.Is(err, fs.ErrNotExist) ||
		err.Error() != want {
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
	want := path + ":1:1: forward 1: server is missing: say which server they reach, like server = " +
		"\"ftp.example.com:21\""
	if err == nil || err.Error() != want {
		t.Errorf("got %q; want %q", err, want)
	}
}

// A FIFO without a writer, and a writer that says nothing, do not hang the reader of the file.
func TestLoadPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo.toml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(),
		path+" is a pipe, and no program writes") {
		t.Errorf("no writer: got %v; want that it is a pipe", err)
	}
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := Load(path); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent writer: got %v; want %v", err, os.ErrDeadlineExceeded)
	}
}

// A file of garbage has a list of faults that can be read.
func TestFaultsBounded(t *testing.T) {
	_, err := parse("f.toml", strings.NewReader(strings.Repeat("[[forward]]\n", maxFaults)))
	faults, ok := err.(Faults)
	if want := "f.toml:500:1: 1000 faults more than this list has"; !ok || len(faults) != maxFaults+1 ||
		faults[maxFaults].String() != want {
		t.Errorf("got %d faults, the last %q; want %d and %q", len(faults), faults[len(faults)-1],
			maxFaults+1, want)
	}
	_, err = parse("f.toml", strings.NewReader("'"+strings.Repeat("é", 1<<20)+"' = 1\n"))
	if text := err.Error(); len(text) > maxFaultText+200 || !strings.Contains(text, "unknown key \"é") {
		t.Errorf("got a fault of %d bytes: %.300q; want a shortened one", len(text), text)
	}
}

// A file that repeats a header is read up to a bound, however it is written.
func TestForwardsBounded(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("[[forward]]\n", maxSize/len("[[forward]]\n")),
		"forward = [" + strings.Repeat("{},", maxForwards+5) + "{}]\n",
	} {
		_, err := parse("f.toml", strings.NewReader(text))
		faults, _ := err.(Faults)
		// A forward without keys has two faults; the one before the last is where reading stopped.
		if len(faults) != maxFaults+1 || !strings.HasPrefix(faults[maxFaults].Text, "3") {
			t.Errorf("%.20s: got %d faults, the last %q; want two for each of %d forwards, and that there "+
				"are more",
				text, len(faults), faults[len(faults)-1], maxForwards)
		}
		d := newDocument([]byte(text))
		d.read()
		if len(d.forwards) != maxForwards || len(d.faults) != 1 ||
			d.faults[0].text != "more than 20000 forwards: the rest of the file is not read" {
			t.Errorf("%.20s: got %d forwards and faults %v; want %d and that there are more", text,
				len(d.forwards), d.faults, maxForwards)
		}
	}
}

func TestParseReadError(t *testing.T) {
	broken := errors.New("broken disk")
	_, err := parse("f.toml", iotest.ErrReader(broken))
	if want := "config: broken disk"; !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("got %q; want %q", err, want)
	}
}

// endless is a text without an end, like /dev/zero.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
	}
	return len(p), nil
}

func TestParseTooLarge(t *testing.T) {
	_, err := parse("f.toml", endless{})
	if want := "f.toml:1:1: the file is larger than 4 MiB: is it a configuration file?"; err == nil ||
		err.Error() != want {
		t.Errorf("got %q; want %q", err, want)
	}
	head := "[[forward]]\nlisten = \":21\"\nserver = \"a\"\n"
	if _, err = parse("f.toml", io.MultiReader(strings.NewReader(head),
		io.LimitReader(endless{}, maxSize-int64(len(head))))); err != nil {
		t.Errorf("got error %v for %d MiB; want none", err, maxSize>>20)
	}
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"listen", "listen"}, {"lissten", "listen"}, {"lisetn", "listen"}, {"LISTEN", "listen"},
		{"sever", "server"},
		{"client", "clients"}, {"TLS", "tls"}, {"serverports", "server_ports"},
		{"server-port", "server_ports"}, {"nam", "name"},
		{"", ""}, {"port", ""}, {"x", ""}, {"s", ""}, {"lan", ""}, {"listener_address", ""},
		{strings.Repeat("listen", 1000), ""},
	} {
		if got := Nearest(tt.word, namesIn(forwardTable)); got != tt.want {
			t.Errorf("Nearest(%.20q): got %q; want %q", tt.word, got, tt.want)
		}
	}
	if got, want := forward.Words[forward.Tracking](),
		[]string{"proxy", "kernel", "none"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got trackings %q; want %q", got, want)
	}
}

// A file whose disk does not answer is an error soon, and is read again once it answers.
func TestLoadHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := make(chan struct{})
		l := Loader{open: func(string) ([]byte, error) {
			<-disk
			return []byte("[[forward]]\nlisten = \"192.168.5.2:2121\"\nserver = \"203.0.113.21\"\n"), nil
		}}
		for range 2 {
			_, err := l.Load("/etc/ftpgate/ftpgate.toml")
			if want := "config: /etc/ftpgate/ftpgate.toml cannot be read: the disk or file server does not " +
				"answer"; err == nil || err.Error() != want {
				t.Errorf("got error %v; want %s", err, want)
			}
		}
		close(disk)
		synctest.Wait()
		if c, err := l.Load("/etc/ftpgate/ftpgate.toml"); err != nil || len(c.Forwards) != 1 {
			t.Errorf("got %+v, error %v; want one forward", c, err)
		}
	})
}
