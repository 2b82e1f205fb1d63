package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/forward"
)

// forwardKey is a key of a [[forward]] table.
type forwardKey struct {
	name    string        // with tlsPrefix before it if it is of that table
	kind    unstable.Kind // String, Integer, Bool, or Array of strings
	want    string        // an example of a value
	missing string        // what to write for who has left it out; empty: it may be left out
	read    func(f *forwardSection, s string, at int) error
}

// The keys of a [[forward]] table.
const (
	keyName = iota
	keyListen
	keyServer
	keyTracking
	keyInterface
	keyClients
	keyServerPorts
	keyData
	keyPassivePorts
	keyAdvertise
	keyServerMode
	keyDialTime
	keyLoginTime
	keyIdleTime
	keyMaxSessions
	keyMaxPerClient
	keyMaxLoginFailures
	keyTLSClient
	keyTLSImplicit
	keyTLSCert
	keyTLSKey
	keyTLSSessionReuse
	keyTLSCCC
	keyTLSClientCloseNotify
	keyTLSServer
	keyTLSServerData
	keyTLSCA
	keyTLSServerName
	keyTLSClientCert
	keyTLSClientKey
	keyTLSVerify
	keyTLSServerCloseNotify
	forwardKeyCount
)

// The bounds of what a forward may ask for. A limit shorter than a second meets the sound ones first.
const (
	minTime      = time.Second
	maxDialTime  = 5 * time.Minute    // longer than the kernel tries: 127 s (tcp_syn_retries in ip-sysctl.rst)
	maxLoginTime = time.Hour          // a session without a user holds its place for so long
	maxIdleTime  = 7 * 24 * time.Hour // what is idle for a week is dead
	// maxSessions is what a process can have: each session takes two files of fs.nr_open's 1,048,576.
	maxSessions = 500_000
	// maxLoginFailures is where guessing passwords begins to pay (RFC 2577 section 4).
	maxLoginFailures = 100
)

var forwardKeys = [forwardKeyCount]forwardKey{
	keyName: {
		name: "name", kind: unstable.String, want: `"archive"`, read: (*forwardSection).readName,
	},
	keyListen: {
		name: "listen", kind: unstable.String, want: `"192.168.5.2:2121"`, read: (*forwardSection).readListen,
		missing: "say where clients connect",
	},
	keyServer: {
		name: "server", kind: unstable.String, want: `"ftp.example.com:21"`, read: (*forwardSection).readServer,
		missing: "say which server they reach",
	},
	keyTracking: {
		name: "tracking", kind: unstable.String, want: `"proxy"`, read: (*forwardSection).readTracking,
	},
	keyInterface: {
		name: "interface", kind: unstable.String, want: `"lan0"`, read: (*forwardSection).readInterface,
	},
	keyClients: {
		name: "clients", kind: unstable.Array, want: `["192.168.5.0/24"]`, read: (*forwardSection).readClient,
	},
	keyServerPorts: {
		name: "server_ports", kind: unstable.String, want: `"50000-50100"`, read: (*forwardSection).readServerPorts,
	},
	keyData: {
		name: "data", kind: unstable.String, want: `"relay"`, read: (*forwardSection).readData,
	},
	keyPassivePorts: {
		name: "passive_ports", kind: unstable.String, want: `"49152-65535"`, read: (*forwardSection).readPassivePorts,
	},
	keyAdvertise: {
		name: "advertise", kind: unstable.Array, want: `["198.51.100.7"]`, read: (*forwardSection).readAdvertise,
	},
	keyServerMode: {
		name: "server_mode", kind: unstable.String, want: `"passive"`, read: (*forwardSection).readServerMode,
	},
	keyDialTime: timeKey("dial_time", `"10s"`, maxDialTime,
		func(l *forward.Limits) *time.Duration { return &l.Dial }),
	keyLoginTime: timeKey("login_time", `"1m"`, maxLoginTime,
		func(l *forward.Limits) *time.Duration { return &l.Login }),
	keyIdleTime: timeKey("idle_time", `"10m"`, maxIdleTime,
		func(l *forward.Limits) *time.Duration { return &l.Idle }),
	keyMaxSessions: numberKey("max_sessions", "20000", maxSessions,
		func(l *forward.Limits) *int { return &l.Sessions }),
	keyMaxPerClient: numberKey("max_sessions_per_client", "200", maxSessions,
		func(l *forward.Limits) *int { return &l.PerClient }),
	keyMaxLoginFailures: numberKey("max_login_failures", "5", maxLoginFailures,
		func(l *forward.Limits) *int { return &l.LoginFailures }),
	keyTLSClient: {
		name: "tls.client", kind: unstable.String, want: `"required"`, read: (*forwardSection).readTLSClient,
	},
	keyTLSImplicit:     boolKey("tls.implicit", true, func(t *forward.TLS) *bool { return &t.Implicit }),
	keyTLSCert:         pathKey("tls.cert", `"/etc/ftpgate/cert.pem"`, func(t *forward.TLS) *string { return &t.Cert }),
	keyTLSKey:          pathKey("tls.key", `"/etc/ftpgate/key.pem"`, func(t *forward.TLS) *string { return &t.Key }),
	keyTLSSessionReuse: boolKey("tls.session_reuse", false, func(t *forward.TLS) *bool { return &t.SessionReuseOptional }),
	keyTLSCCC:          boolKey("tls.ccc", true, func(t *forward.TLS) *bool { return &t.CCC }),
	keyTLSClientCloseNotify: choiceKey("tls.client_close_notify", "required", "optional",
		func(t *forward.TLS) *bool { return &t.ClientCloseNotifyOptional }),
	keyTLSServer: {
		name: "tls.server", kind: unstable.String, want: `"required"`, read: (*forwardSection).readTLSServer,
	},
	keyTLSServerData: choiceKey("tls.server_data", "private", "clear", func(t *forward.TLS) *bool { return &t.ServerDataClear }),
	keyTLSCA:         pathKey("tls.ca", `"/etc/ftpgate/ca.pem"`, func(t *forward.TLS) *string { return &t.CA }),
	keyTLSServerName: {
		name: "tls.server_name", kind: unstable.String, want: `"ftp.example.com"`, read: (*forwardSection).readTLSServerName,
	},
	keyTLSClientCert: pathKey("tls.client_cert", `"/etc/ftpgate/client.pem"`, func(t *forward.TLS) *string { return &t.ClientCert }),
	keyTLSClientKey:  pathKey("tls.client_key", `"/etc/ftpgate/client-key.pem"`, func(t *forward.TLS) *string { return &t.ClientKey }),
	keyTLSVerify:     choiceKey("tls.verify", "full", "insecure", func(t *forward.TLS) *bool { return &t.Insecure }),
	keyTLSServerCloseNotify: choiceKey("tls.server_close_notify", "required", "optional",
		func(t *forward.TLS) *bool { return &t.ServerCloseNotifyOptional }),
}

// timeKey is a key for one of the times of dnat.Limits.
func timeKey(name, want string, most time.Duration, of func(*forward.Limits) *time.Duration) forwardKey {
	read := func(f *forwardSection, s string, _ int) (err error) {
		*of(&f.Limits), err = parseTime(name, s, minTime, most)
		return err
	}
	return forwardKey{name: name, kind: unstable.String, want: want, read: read}
}

// numberKey is a key for one of the numbers of dnat.Limits.
func numberKey(name, want string, most int, of func(*forward.Limits) *int) forwardKey {
	read := func(f *forwardSection, s string, _ int) error {
		n, err := strconv.Atoi(strings.ReplaceAll(s, "_", "")) // TOML has 20_000, too
		switch {
		case err != nil:
			return fmt.Errorf("%s %q: want a number from 1 to %d", name, s, most)
		case n < 1 || n > most:
			return fmt.Errorf("%s %d: want a number from 1 to %d", name, n, most)
		}
		*of(&f.Limits) = n
		return nil
	}
	return forwardKey{name: name, kind: unstable.Integer, want: want, read: read}
}

// parseTime reads a duration; the bounds are allowed.
func parseTime(key, s string, least, most time.Duration) (time.Duration, error) {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s %q: want a number with a unit, like \"30s\" or \"5m\"", key, s)
	case v < least:
		return 0, fmt.Errorf("%s %q: want %s or more", key, s, ShortTime(least))
	case v > most:
		return 0, fmt.Errorf("%s %q: want %s or less", key, s, ShortTime(most))
	}
	return v, nil
}

// ShortTime writes a duration as one types it into a file: 24h, not 24h0m0s.
func ShortTime(v time.Duration) string {
	s := v.String()
	for _, unit := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, unit) {
			s = s[:len(s)-len("0s")]
		}
	}
	return s
}

// wanted says what the value of the key is.
func (k *forwardKey) wanted() string {
	switch k.kind {
	case unstable.Array:
		return "an array of strings like " + k.want
	case unstable.Integer:
		return "an integer like " + k.want
	case unstable.Bool:
		return "true or false"
	}
	return "a string like " + k.want
}

func (f *forwardSection) readName(s string, _ int) error {
	f.Name = s
	return forward.CheckName(s)
}

func (f *forwardSection) readListen(s string, _ int) error {
	l, err := forward.ParseListen(s)
	l.Interface = f.Listen.Interface // which may stand above
	f.Listen = l
	return err
}

func (f *forwardSection) readServer(s string, _ int) (err error) {
	f.Server, err = forward.ParseServer(s)
	return err
}

func (f *forwardSection) readTracking(s string, _ int) (err error) {
	f.Tracking, err = oneOf("tracking", s, forward.ParseTracking)
	return err
}

func (f *forwardSection) readInterface(s string, _ int) error {
	f.Listen.Interface = s
	return forward.CheckInterface(s)
}

func (f *forwardSection) readClient(s string, at int) error {
	p, err := forward.ParseClient(s)
	if err == nil {
		f.Clients = append(f.Clients, p)
		f.clients = append(f.clients, client{p, s, at})
	}
	return err
}

func (f *forwardSection) readServerPorts(s string, _ int) (err error) {
	if f.ServerPorts, err = forward.ParsePortRange(s); err != nil {
		return fmt.Errorf("server_%w", err)
	}
	return nil
}

func (f *forwardSection) readData(s string, _ int) (err error) {
	f.Data, err = oneOf("data", s, forward.ParseDataPath)
	return err
}

func (f *forwardSection) readPassivePorts(s string, _ int) (err error) {
	if f.PassivePorts, err = forward.ParsePortRange(s); err != nil {
		return fmt.Errorf("passive_%w", err)
	}
	return nil
}

func (f *forwardSection) readAdvertise(s string, _ int) error {
	a, err := forward.ParseAdvertise(s)
	if err == nil {
		f.Advertise = append(f.Advertise, a)
	}
	return err
}

func (f *forwardSection) readServerMode(s string, _ int) (err error) {
	f.ServerMode, err = oneOf("server_mode", s, forward.ParseServerMode)
	return err
}

// enum is a value that a few words stand for, numbered from zero.
type enum interface {
	~uint8
	fmt.Stringer
}

// oneOf reads one of a few words, and guesses which one was meant.
func oneOf[T enum](key, s string, parse func(string) (T, error)) (T, error) {
	v, err := parse(s)
	if err != nil {
		if near := nearest(s, wordsOf(parse)); near != "" {
			err = fmt.Errorf("unknown %s %q: did you mean %q?", key, s, near)
		}
	}
	return v, err
}

// wordsOf returns the words that parse reads.
func wordsOf[T enum](parse func(string) (T, error)) []string {
	var words []string
	for v := T(0); ; v++ {
		if _, err := parse(v.String()); err != nil {
			return words
		}
		words = append(words, v.String())
	}
}
