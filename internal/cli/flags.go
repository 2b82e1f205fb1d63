package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/core/forward"
)

// keyFlag is a key of the file as a flag of forward; package config reads what it is given.
type keyFlag struct {
	key      string // of the file
	argument string // what the help calls its value
	usage    string
	implied  string // what holds without it, for the help
	list     bool   // it may be given again, and several values may stand in one, behind commas
	boolean  bool   // it may be given without a value, which is true
	given    []string
}

// keyFlags are the keys of a forward and of the top of the file, in the order of the help.
func keyFlags() []*keyFlag {
	return slices.Concat(forwardFlags(), limitFlags(), tlsFlags(), []*keyFlag{
		{key: "drain", argument: "TIME", implied: config.ShortTime(config.DefaultDrain),
			usage: "how long running transfers may go on at the end"},
		{key: "resolve", argument: "TIME", implied: config.ShortTime(config.DefaultResolve),
			usage: "how often names are resolved again"},
	}, showFlags())
}

// showFlags say where the forward shows what it does.
func showFlags() []*keyFlag {
	return []*keyFlag{
		{key: "admin.socket", argument: "PATH", usage: "where ftpgate status and the like can ask it (default nowhere)"},
		{key: "admin.group", argument: "GROUP", implied: config.DefaultGroup, usage: "whose members may ask there"},
		{key: "admin.listen", argument: "ADDR:PORT", usage: "answer over TCP, too, for a scraper of metrics"},
		{key: "admin.token_file", argument: "FILE", usage: "what TCP clients must show"},
		{key: "log.transfers", argument: "FILE", usage: "a line of JSON for each transfer; - for standard output"},
		{key: "log.xferlog", argument: "FILE", usage: "the same in the format of xferlog"},
	}
}

// forwardFlags say who may use the forward, and how it carries what.
func forwardFlags() []*keyFlag {
	return []*keyFlag{
		{key: "tracking", argument: "WORD", implied: forward.TrackingProxy.String(),
			usage: "how the FTP dialogue is followed: proxy, kernel or none"},
		{key: "clients", argument: "PREFIX", list: true,
			usage: "who may use it, an address or a prefix; repeatable (default everybody)"},
		{key: "interface", argument: "NAME", usage: "take connections that arrive at this interface only"},
		{key: "name", argument: "NAME", usage: "what log lines call it (default LISTEN)"},
		{key: "server_ports", argument: "PORTS",
			usage: "the server's passive ports, like 50000-50100; FTPS passes through with them"},
		{key: "data", argument: "WORD", implied: forward.DataAuto.String(),
			usage: "what carries data connections: auto, kernel or relay"},
		{key: "passive_ports", argument: "PORTS", implied: forward.DefaultPassivePorts.String(),
			usage: "the gateway's ports for data connections"},
		{key: "advertise", argument: "ADDR[,PREFIX=ADDR...]", list: true,
			usage: "what clients are told to connect to; repeatable"},
		{key: "server_mode", argument: "WORD", implied: forward.ServerModeClient.String(),
			usage: "how the server is asked for data: client or passive"},
	}
}

// limitFlags bound the sessions.
func limitFlags() []*keyFlag {
	limits := forward.DefaultLimits()
	return []*keyFlag{
		{key: "dial_time", argument: "TIME", implied: config.ShortTime(limits.Dial),
			usage: "until the server takes the connection"},
		{key: "login_time", argument: "TIME", implied: config.ShortTime(limits.Login),
			usage: "until the client has logged in"},
		{key: "idle_time", argument: "TIME", implied: config.ShortTime(limits.Idle),
			usage: "without a command; stands still during a transfer"},
		{key: "max_sessions", argument: "N", implied: strconv.Itoa(limits.Sessions),
			usage: "sessions at once"},
		{key: "max_sessions_per_client", argument: "N", implied: strconv.Itoa(limits.PerClient),
			usage: "sessions at once of one client address"},
		{key: "max_login_failures", argument: "N", implied: strconv.Itoa(limits.LoginFailures),
			usage: "wrong passwords before a session is ended"},
	}
}

// tlsFlags are the keys of a forward's table tls.
func tlsFlags() []*keyFlag {
	return []*keyFlag{
		{key: "tls.client", argument: "WORD", implied: forward.ClientTLSOff.String(),
			usage: "TLS with clients: off, optional or required"},
		{key: "tls.implicit", boolean: true, implied: "false",
			usage: "clients begin with TLS, without AUTH, as at port 990"},
		{key: "tls.cert", argument: "FILE",
			usage: "the gateway's certificate, or self-signed to try things out"},
		{key: "tls.key", argument: "FILE", usage: "its key (default in the certificate's file)"},
		{key: "tls.session_reuse", boolean: true, implied: "true",
			usage: "clients' data connections must resume their TLS session"},
		{key: "tls.ccc", boolean: true, implied: "false",
			usage: "clients may go back to a control connection in clear"},
		{key: "tls.client_close_notify", argument: "WORD", implied: "required",
			usage: "the end of a client's TLS data: required or optional"},
		{key: "tls.server", argument: "WORD", implied: forward.ServerTLSOff.String(),
			usage: "TLS with the server: off, required or implicit"},
		{key: "tls.server_data", argument: "WORD", implied: "private",
			usage: "the server's data connections: private or clear"},
		{key: "tls.ca", argument: "FILE",
			usage: "whom to trust for its certificate (default this host's certificates)"},
		{key: "tls.server_name", argument: "NAME",
			usage: "what its certificate must name (default the host of SERVER)"},
		{key: "tls.client_cert", argument: "FILE", usage: "the certificate that the server is shown"},
		{key: "tls.client_key", argument: "FILE", usage: "its key (default in the certificate's file)"},
		{key: "tls.verify", argument: "WORD", implied: "full",
			usage: "the server's certificate: full, or insecure for none at all"},
		{key: "tls.server_close_notify", argument: "WORD", implied: "required",
			usage: "the end of the server's TLS data: required or optional"},
	}
}

// addKeyFlags adds the flags to a command's.
func addKeyFlags(cmd *cobra.Command, flags []*keyFlag) {
	set := cmd.Flags()
	set.SortFlags = false
	for _, k := range flags {
		f := set.VarPF(k, flagName(k.key), "", k.usage)
		f.DefValue = k.implied
		if k.boolean {
			f.NoOptDefVal = "true"
		}
	}
}

// Set takes a value from the command line; config judges it later, together with the others.
func (k *keyFlag) Set(s string) error {
	if k.list {
		k.given = append(k.given, strings.Split(s, ",")...)
	} else {
		k.given = []string{s} // the last one counts
	}
	return nil
}

// Type returns what the help calls the value. There pflag knows that a bool needs none.
func (k *keyFlag) Type() string {
	if k.boolean {
		return "bool"
	}
	return k.argument
}

// String returns what was given.
func (k *keyFlag) String() string { return strings.Join(k.given, ",") }

// flagName is the flag for a key of the file. One value is given with each --client.
func flagName(key string) string {
	if key == "clients" {
		return "client"
	}
	return strings.NewReplacer("_", "-", ".", "-").Replace(key)
}

// fromFlags reads the words and the flags of forward; the error names every fault.
func fromFlags(listen, server string, flags []*keyFlag) (*config.Config, error) {
	words := []config.Word{{Key: "listen", Text: listen}, {Key: "server", Text: server}}
	for _, k := range flags {
		for _, text := range k.given {
			words = append(words, config.Word{Key: k.key, Text: text})
		}
	}
	c, err := config.FromWords(words)
	var faults config.Faults
	if !errors.As(err, &faults) {
		return c, err
	}
	said := make([]error, len(faults))
	for i, f := range faults {
		said[i] = errors.New(inFlagWords(f, flags))
	}
	return nil, errors.Join(said...)
}

// faultToken is a part of a fault's text: an example as a file has it (key = "value", key = ["value"] or
// key = true), what somebody has typed, in quotes, or a word, with dots within.
var faultToken = regexp.MustCompile(`([a-z_.]+) = (?:\[?"([^"]*)"\]?|(true|false))|"(?:[^"\\]|\\.)*"|[\w'-]+(?:\.[\w'-]+)*`)

// inFlagWords speaks of flags where the fault speaks of a file's keys: wherever a key cannot be another
// word, and wherever it is the key at fault.
func inFlagWords(fault config.Fault, flags []*keyFlag) string {
	var own *keyFlag // nil: the fault is in LISTEN or SERVER
	keys := map[string]bool{}
	for _, k := range flags {
		keys[k.key] = true
		if k.key == fault.Key {
			own = k
		}
	}
	text := faultToken.ReplaceAllStringFunc(fault.Text, func(token string) string {
		switch m := faultToken.FindStringSubmatch(token); {
		case m[3] != "":
			return fmt.Sprintf("--%s=%s", flagName(m[1]), m[3])
		case m[1] != "":
			return fmt.Sprintf("--%s %s", flagName(m[1]), m[2])
		}
		isOwn := own != nil && flagName(token) == flagName(own.key)
		if isOwn || keys[token] && strings.ContainsAny(token, "_.") {
			return "--" + flagName(token)
		}
		return token
	})
	switch {
	case own == nil:
		return text
	case len(own.given) == 0:
		return fmt.Sprintf("--%s is missing: %s", flagName(own.key), text)
	case !strings.Contains(text, "--"+flagName(own.key)):
		return fmt.Sprintf("--%s: %s", flagName(own.key), text)
	}
	return text
}
