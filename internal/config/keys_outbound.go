package config

import (
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/forward"
)

// outboundKeys are the keys that only an [[outbound]] has. It has those of a [[forward]] as well, but for the
// published ones.
func outboundKeys() []Key {
	destinations := func(k Key, field func(values) *[]forward.Destination) Key {
		k.Argument = "PREFIX|NAME"
		return list(k, forward.ParseDestination, field)
	}
	return inTable(outboundTable,
		withElements(unstable.Integer, list(Key{Name: "ports", flag: "port", Argument: "PORT",
			Example: "[21, 2121]",
			Default: strconv.Itoa(forward.DefaultServerPort),
			Help:    "the servers' ports for control connections; repeatable",
		}, forward.ParseServerPort, func(v values) *[]uint16 { return &v.Outbound.Ports })),
		destinations(Key{Name: "servers", flag: "server", Example: `["203.0.113.0/24", "ftp.example.com"]`,
			Otherwise: "all servers",
			Help:      "servers that clients may reach; repeatable",
			Doc:       "the servers that clients may reach: addresses, prefixes with no host bits set, names",
		}, func(v values) *[]forward.Destination { return &v.Outbound.Servers }),
		destinations(Key{Name: "deny_servers", flag: "deny-server", Example: `["203.0.113.66"]`,
			Otherwise: none,
			Help:      "servers that clients may not reach; repeatable",
			Doc:       "the servers that clients may not reach, even if 'servers' has them: as there",
		}, func(v values) *[]forward.Destination { return &v.Outbound.Denied }),
		file(Key{Name: "account_file", Argument: "FILE", Example: `"/etc/ftpgate/proxy-account"`,
			Otherwise: "any login",
			Help:      "file with USER:PASSWORD, for logins to the gateway",
			Doc: "with 'listen': a file with one line, USER:PASSWORD, with which clients log in to the" +
				" gateway itself before they name a server",
		}, func(v values) *string { return &v.Outbound.AccountFile }),
		number(Key{Name: "redirect_port", Example: "8021",
			Help: "the gateway's port that the kernel leads control connections to",
		}, forward.DefaultRedirectPort, 65535, func(v values) *int { return &v.Outbound.RedirectPort }),
	)
}

// withElements gives a list elements of another type than strings.
func withElements(kind unstable.Kind, k Key) Key {
	k.element = kind
	return k
}
