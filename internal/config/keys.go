package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
)

// keys is the table of keys: to add a key, add an entry here and the field that it sets. Those of a
// forward stand first.
var (
	ofForward = slices.Concat(forwardKeys(), outboundKeys(), dataKeys(), proxyProtocolKeys(), limitKeys(),
		tlsKeys())
	keys            = slices.Concat(ofForward, topKeys(), adminKeys(), logKeys())
	forwardKeyCount = len(ofForward)
	keyIndex        = indexKeys(keys)
)

// The bounds of what a forward may ask for. A limit shorter than a second meets sound sessions first.
const (
	minTime      = time.Second
	maxDialTime  = 5 * time.Minute    // the kernel tries for 127 s (tcp_syn_retries in ip-sysctl.rst)
	maxLoginTime = time.Hour          // a session without a user holds its place for so long
	maxIdleTime  = 7 * 24 * time.Hour // a session that is idle for a week is dead
	// maxSessions is what a process can have: each session takes two files of fs.nr_open's 1,048,576.
	maxSessions = 500_000
	// maxLoginFailures is where guessing passwords begins to pay (RFC 2577 section 4).
	maxLoginFailures = 100
)

// forwardKeys are the keys of a [[forward]] about its two ends and its clients.
func forwardKeys() []Key {
	return inTable(forwardTable,
		custom(Key{Name: "listen", Argument: "LISTEN", Example: `"192.168.5.2:2121"`,
			missing: "say where clients connect",
			Help:    "where clients connect",
			Doc: `where clients connect: "ADDR:PORT", "[ADDR6]:PORT"; ":PORT" or "PORT" is every address` +
				` of the gateway, IPv4 and IPv6`,
		}, parseListen),
		custom(Key{Name: "server", Argument: "SERVER", Example: `"ftp.example.com:21"`,
			published: true,
			missing:   "say which server they reach",
			Otherwise: fmt.Sprintf("%s; port %d", mustBeGiven, forward.DefaultServerPort),
			Help:      "the FTP server",
			Doc:       `the FTP server, by address or name: "HOST" or "HOST:PORT"`,
		}, func(v values, text string) (err error) {
			v.Server, err = forward.ParseServer(text)
			return err
		}),
		word(Key{Name: "tracking", Example: `"proxy"`, published: true,
			Help: "who follows the FTP dialogue",
			Doc:  `who follows the FTP dialogue: "proxy", "kernel" or "none"`,
		}, func(v values) *forward.Tracking { return &v.Tracking }),
		list(Key{Name: "clients", flag: "client", Argument: "PREFIX", Example: `["192.168.5.0/24"]`,
			Otherwise: "all clients",
			Help:      "clients that may use it: address or prefix; repeatable",
			Doc:       "the clients that may use it: addresses, or prefixes with no host bits set",
		}, forward.ParseClient, func(v values) *[]netip.Prefix { return &v.Clients }),
		custom(Key{Name: "interface", Argument: "NAME", Example: `"lan0"`,
			Otherwise: "any",
			Help:      "accept only connections that arrive at this interface",
		}, func(v values, text string) error {
			v.Listen.Interface = text
			return forward.CheckInterface(text)
		}),
		custom(Key{Name: "name", Argument: "NAME", Example: `"archive"`,
			Otherwise: "the listen address",
			Help:      "the name in log lines and messages",
			Doc:       "the name in log lines and messages: up to 64 bytes, unique in the file",
		}, func(v values, text string) error {
			v.Name = text
			return forward.CheckName(text)
		}),
		ports(Key{Name: "server_ports", Example: `"50000-50100"`,
			Otherwise: none,
			Help:      "the server's passive ports, like 50000-50100; FTPS passes through with them",
			Doc: `the server's passive ports, "FIRST-LAST" or one port. Tracking 'none' needs them, and` +
				` there "all" is possible, too; with tracking 'proxy' they [pass FTPS ` +
				`through](#passed-through)`,
		}, func(v values) *forward.PortRange { return &v.ServerPorts }),
	)
}

// dataKeys are the keys of a [[forward]] about its data connections.
func dataKeys() []Key {
	return inTable(forwardTable,
		word(Key{Name: "data", Needs: NeedProxy, Example: `"relay"`,
			Help: "what carries data connections",
			Doc:  `what carries data connections: "auto", "kernel" or "relay"`,
		}, func(v values) *forward.DataPath { return &v.Data }),
		ports(Key{Name: "passive_ports", Needs: NeedProxy, Example: `"49152-65535"`,
			Default: forward.DefaultPassivePorts.String(),
			Help:    "the gateway's ports for data connections",
			Doc: fmt.Sprintf(`the gateway's ports for data connections, "FIRST-LAST", from %d on`,
				forward.LowestDataPort),
		}, func(v values) *forward.PortRange { return &v.PassivePorts }),
		list(Key{Name: "advertise", Needs: NeedProxy, Argument: "ADDR[,PREFIX=ADDR...]", published: true,
			Example:   `["198.51.100.7"]`,
			Otherwise: "the address that the client dialled",
			Help:      "the address that a 227 names",
			Doc: `the address that a 227 names, for a gateway behind a translation of addresses: "ADDR" for` +
				` all clients, "PREFIX=ADDR" for some; an IPv4 address, or a name`,
		}, forward.ParseAdvertise, func(v values) *[]forward.Advertise { return &v.Advertise }),
		word(Key{Name: "server_mode", Needs: NeedProxy, Example: `"passive"`,
			Help: "how to ask the server for data connections",
			Doc: `how the gateway asks the server for data connections: "client" (as the client asks) or` +
				` "passive"`,
		}, func(v values) *forward.ServerMode { return &v.ServerMode }),
		word(Key{Name: "source", Needs: NeedProxy, Example: `"client"`,
			Help: "whose address the server sees",
			Doc: `whose address the server sees: "gateway" (the gateway's own) or "client", which needs a` +
				` way back through the gateway`,
		}, func(v values) *forward.Source { return &v.Source }),
	)
}

// proxyProtocolKeys are the keys of a [[forward]] about headers that name the client.
func proxyProtocolKeys() []Key {
	return inTable(forwardTable,
		list(Key{Name: "accept_proxy_protocol", Needs: NeedProxy, Argument: "PREFIX",
			Example:   `["10.0.0.0/28"]`,
			Otherwise: none,
			Help:      "balancers, whose PROXY protocol header names the client; repeatable",
			Doc: "balancers: addresses or prefixes whose connections begin with a PROXY" +
				" protocol header, v1 or v2, which names the client",
		}, forward.ParseBalancer, func(v values) *[]netip.Prefix { return &v.Balancers }),
		word(Key{Name: "send_proxy_protocol", Needs: NeedProxy, Example: `"v2"`,
			Help: "version of the PROXY header for the server",
			Doc: `the PROXY protocol header that tells the server` +
				` who the client is: "off", "v1" or "v2"`,
		}, func(v values) *forward.ProxyProtocol { return &v.SendProxyProtocol }),
		boolean(Key{Name: "send_proxy_protocol_data", Needs: NeedProxy,
			Help: "the server gets the header on passive data connections, too",
			Doc: "whether the server gets the header on passive data connections, too; the relay then" +
				" carries them",
		}, false, func(v values) *bool { return &v.SendProxyProtocolData }),
	)
}

// parseDeny reads an element of deny.
func parseDeny(v values, text string) error {
	if !strings.HasPrefix(text, "/") {
		p, err := ban.ParseDenied(text)
		if err != nil {
			return fmt.Errorf("deny: %w; the path of a file begins with /", err)
		}
		v.Deny.Prefixes = append(v.Deny.Prefixes, p)
		return nil
	}
	if err := checkPath("deny", text); err != nil {
		return err
	}
	v.Deny.Files = append(v.Deny.Files, text)
	return nil
}

// parseListen leaves the interface alone, which may stand above.
func parseListen(v values, text string) error {
	l, err := forward.ParseListen(text)
	l.Interface = v.Listen.Interface
	v.Listen = l
	if v.Outbound != nil {
		v.Outbound.Explicit = true
	}
	return err
}

// limitKeys are the keys of a [[forward]] that bound its sessions.
func limitKeys() []Key {
	return inTable(forwardTable,
		duration(Key{Name: "dial_time", Needs: NeedProxy, Example: `"10s"`,
			Help: "how long the server may take to accept the control connection",
		}, forward.DefaultDialTime, minTime, maxDialTime,
			func(v values) *time.Duration { return &v.Limits.Dial }),
		duration(Key{Name: "login_time", Needs: NeedProxy, Example: `"1m"`,
			Help: "how long the client may take to log in",
		}, forward.DefaultLoginTime, minTime, maxLoginTime,
			func(v values) *time.Duration { return &v.Limits.Login }),
		duration(Key{Name: "idle_time", Needs: NeedProxy, Example: `"10m"`,
			Help: "how long a session may be idle; transfers do not count",
		}, forward.DefaultIdleTime, minTime, maxIdleTime,
			func(v values) *time.Duration { return &v.Limits.Idle }),
		number(Key{Name: "max_sessions", Needs: NeedProxy, Example: "20000",
			Help: "most sessions at once",
		}, forward.DefaultSessions, maxSessions, func(v values) *int { return &v.Limits.Sessions }),
		number(Key{Name: "max_sessions_per_client", Needs: NeedProxy, Example: "200",
			Help: "most sessions at once of one client",
			Doc:  "most sessions at once of one client: an IPv4 address, or an IPv6 network",
		}, forward.DefaultPerClient, maxSessions, func(v values) *int { return &v.Limits.PerClient }),
		number(Key{Name: "client_ipv6_prefix", Needs: NeedProxy, Example: "56",
			Help: "bits of an IPv6 address that make one client",
			Doc: "how many bits of an IPv6 address make one client, for 'max_sessions_per_client': most" +
				" providers give a customer 56 or 64",
		}, forward.DefaultIPv6Prefix, 128, func(v values) *int { return &v.Limits.IPv6Prefix }),
		number(Key{Name: "max_login_failures", Needs: NeedProxy, Example: "5",
			Help: "wrong passwords before a session ends",
		}, forward.DefaultLoginFailures, maxLoginFailures,
			func(v values) *int { return &v.Limits.LoginFailures }),
	)
}

// topKeys are the keys above any table.
func topKeys() []Key {
	return inTable(topTable,
		duration(Key{Name: "drain", Example: `"30s"`,
			Help: "how long running transfers may continue at the end",
			Doc: "how long running transfers may continue when ftpgate stops, or when a reload removes " +
				"their forward",
		}, DefaultDrain, 0, maxDrain, func(v values) *time.Duration { return &v.Drain }),
		duration(Key{Name: "resolve", Example: `"30s"`,
			Help: "how often to resolve the servers' names again",
		}, DefaultResolve, minResolve, math.MaxInt64, func(v values) *time.Duration { return &v.Resolve }),
		durationOrOff(Key{Name: "health", Example: `"30s"`,
			FlagDefault: off, // see package cli
			Help:        "how often to ask each server whether it answers",
			Doc:         `how often to ask each server whether it answers; "off": never`,
		}, DefaultHealth, minHealth, maxHealth, func(v values) *time.Duration { return &v.Health }),
		Key{Name: "deny", kind: unstable.Array, Argument: "PREFIX",
			Example:   `["192.0.2.7", "/etc/ftpgate/denied"]`,
			Otherwise: "none",
			Help:      "clients to refuse: address, prefix or file; repeatable",
			Doc: "the clients that no forward serves: addresses, prefixes, and files of them by their whole" +
				" path, which are [read again](#denied-clients) when they change",
			parse: parseDeny,
			isSet: func(v values) bool { return len(v.Deny.Prefixes)+len(v.Deny.Files) > 0 },
		},
	)
}
