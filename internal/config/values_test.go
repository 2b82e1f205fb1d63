package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestFromValues: values make the forward that a file with the same values makes.
func TestFromValues(t *testing.T) {
	got, err := FromValues(false, []Value{
		{"listen", ":2121"}, {"server", "ftp.example.com"}, {"drain", "0s"}, {"resolve", "2s"},
		{"clients", "192.168.5.0/24"}, {"clients", "192.168.6.17"}, {"advertise", "198.51.100.7"},
		{"advertise", "10.0.0.0/8=gate"},
		{"max_sessions", "20"}, {"idle_time", "5m"}, {"data", "relay"},
		{"tls.client", "required"}, {"tls.implicit", "true"}, {"tls.cert", "self-signed"},
		{"tls.session_reuse", "false"}, {"tls.ccc", "false"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want, err := parse("f.toml", strings.NewReader(`
drain = "0s"
resolve = "2s"
[[forward]]
listen = ":2121"
server = "ftp.example.com"
clients = ["192.168.5.0/24", "192.168.6.17"]
advertise = ["198.51.100.7", "10.0.0.0/8=gate"]
max_sessions = 20
idle_time = "5m"
data = "relay"
[forward.tls]
client = "required"
implicit = true
cert = "self-signed"
session_reuse = false
`))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

// TestFromValuesFaults: every fault once, in the order of the values.
func TestFromValuesFaults(t *testing.T) {
	_, err := FromValues(false, []Value{
		{"listen", "192.168.5.2"}, {"server", "127.0.0.1"}, {"data", "kernal"}, {"drain", "x"},
		{"clients", "10.0.0.0/8"}, {"clients", "10.1.0.0/16"}, {"passive_ports", "20"},
		{"max_sessions", "1e3"},
		{"tls.client", "requierd"}, {"tls.implicit", "1"}, {"tls.verify", "insecure"}, {"tls.ca", ""},
	})
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got error %v; want Faults", err)
	}
	want := Faults{
		{Key: "listen", Text: `listen "192.168.5.2": no port: want ADDR:PORT`},
		{Key: "data", Text: `unknown data "kernal": did you mean "kernel"?`},
		{Key: "drain", Text: `drain "x": want a number with a unit, like "30s" or "5m"`},
		{Key: "clients", Text: `client "10.1.0.0/16" is covered by "10.0.0.0/8"`},
		{Key: "passive_ports", Text: "passive_ports 20: the ports below 1024 are those of services: want a " +
			"range like 49152-65535"},
		{Key: "max_sessions", Text: `max_sessions "1e3": want a number from 1 to 500000`},
		{Key: "tls.client", Text: `unknown tls.client "requierd": did you mean "required"?`},
		{Key: "tls.implicit", Text: `tls.implicit "1": want true or false`},
		{Key: "tls.verify", Text: `tls.verify has no effect while tls.server is off: set tls.server = ` +
			`"required", or leave tls.verify out`},
		{Key: "tls.ca", Text: `tls.ca is empty: name a file, like "/etc/ftpgate/ca.pem"`},
	}
	if !reflect.DeepEqual(faults, want) {
		t.Errorf("got\n%q\nwant\n%q", faults, want)
	}
}

// TestHealth: a time within its bounds, or off.
func TestHealth(t *testing.T) {
	forward := []Value{{"listen", ":2121"}, {"server", "ftp.example.com"}}
	for text, want := range map[string]time.Duration{"off": 0, "5s": 5 * time.Second, "24h": 24 * time.Hour} {
		c, err := FromValues(false, append(forward, Value{"health", text}))
		if err != nil || c.Health != want {
			t.Errorf("%s: got %+v, error %v; want %s", text, c, err, want)
		}
	}
	for text, want := range map[string]string{
		"0s":    `health: health "0s": want 5s or more, or "off"`,
		"25h":   `health: health "25h": want 24h or less, or "off"`,
		"never": `health: health "never": want a number with a unit, like "30s" or "5m", or "off"`,
	} {
		_, err := FromValues(false, append(forward, Value{"health", text}))
		if err == nil || err.Error() != want {
			t.Errorf("%s: got error %v; want %q", text, err, want)
		}
	}
}
