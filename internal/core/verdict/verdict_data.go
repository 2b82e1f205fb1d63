package verdict

import (
	"cmp"
	"fmt"
	"strings"
)

// dataWords are the words for faults that have to do with data connections and with what was asked for them.
var dataWords = map[Code]sentence{
	CodeThirdParty: {
		func(f Fault) string {
			own := ""
			if f.Peer.IsValid() {
				own = ", " + f.Peer.String()
			}
			return fmt.Sprintf("the client's %s names another address than its own%s: refused", cmp.Or(f.Verb, "PORT"), own)
		},
		always("have the client use passive mode: it is behind a translation of addresses itself, or sends files between two servers, which is not allowed"),
	},
	CodeLowPort: {
		func(f Fault) string { return fmt.Sprintf("%s was refused: %s", cmp.Or(f.Verb, "PORT"), f.Said) },
		always("have the client listen at ports from 1024 on, or use passive mode"),
	},
	CodeFamily: {
		func(f Fault) string { return fmt.Sprintf("%s was refused: %s", cmp.Or(f.Verb, "the command"), f.Said) },
		always("most clients try the other way by themselves; with IPv6 they have to use EPSV or EPRT"),
	},
	CodeNotLoggedIn: {
		func(f Fault) string {
			return fmt.Sprintf("the client sent %s before it had logged in", cmp.Or(f.Verb, "a command for data"))
		}, nil,
	},
	CodeCommand: {
		func(f Fault) string { return fmt.Sprintf("%s was refused: %s", cmp.Or(f.Verb, "a command"), f.Said) }, nil,
	},
	CodeNoPorts: {
		func(f Fault) string { return fmt.Sprintf("no passive port was free in %s", f.Ports) },
		always("widen passive_ports, or see with ftpgate sessions who holds so many"),
	},
	CodeNoPath: {
		func(f Fault) string { return "no data connection was possible: " + cmp.Or(f.Err, f.Said) },
		always("data = \"auto\" has ftpgate itself carry what the kernel cannot; see the log for what the operating system said"),
	},
	CodeTLSRefused: {
		func(f Fault) string {
			return "the client asked for encryption, which this forward cannot carry: " + f.Said
		}, nil,
	},
	CodeTLSRequired: {
		func(f Fault) string {
			switch f.Verb {
			case "PASV", "EPSV", "PORT", "EPRT", "PROT": // which may come over TLS themselves
				return fmt.Sprintf("the client asked for data in clear with %s, and this forward requires TLS", f.Verb)
			}
			return fmt.Sprintf("the client sent %s in clear, and this forward requires TLS", cmp.Or(f.Verb, "it"))
		},
		always("have the client use explicit FTPS with encrypted data (AUTH TLS, PBSZ 0, PROT P), or set tls.client = \"optional\""),
	},
	CodeClientTLS: {
		func(f Fault) string {
			return cmp.Or(f.Said, "the client and the gateway did not agree upon TLS") + because(f)
		}, nil,
	},
	CodeClientNoTLS: {
		func(f Fault) string {
			return cmp.Or(f.Said, "the client did not begin with TLS on its data connection") + because(f)
		}, nil,
	},
	CodeReuse: {
		func(f Fault) string {
			return "the client's data connection did not resume the TLS session of its control connection"
		},
		always("have the client resume TLS sessions, or set tls.session_reuse = false: then anybody who comes first from the client's address gets the data"),
	},
	CodeTLSOther: {
		func(f Fault) string {
			return fmt.Sprintf("%s was refused: %s", cmp.Or(f.Verb, "a command of TLS"), f.Said)
		}, nil,
	},
	CodeServerReuse: {
		func(f Fault) string { return cmp.Or(detail(f), "no TLS with the server on the data connection") },
		always("see in the server's log why: it may want its session resumed in another way than the gateway does it"),
	},
	CodeTruncated: {
		func(f Fault) string { return cmp.Or(f.Said, f.Err) }, nil,
	},
	CodeNobodyCame: {
		func(f Fault) string {
			return fmt.Sprintf("the client never connected to %s within %s", f.At, seconds(f.Waited))
		},
		func(f Fault) string {
			return fmt.Sprintf("see whether a firewall between it and the gateway, or a filter of the gateway's own, drops ports %s, and whether the client reaches %s at all", f.Ports, f.At.Addr())
		},
	},
	CodeStranger: {
		func(f Fault) string {
			return fmt.Sprintf("%s connected to %s, where only %s may: the client's data comes from another address than its control connection", f.Peer, f.At, f.Err)
		},
		always("have the client's way out keep one address for all its connections (a proxy or a pool of addresses in between does not)"),
	},
	CodeFiltered: {
		func(f Fault) string {
			return fmt.Sprintf("%s connected to %s, and a filter of the gateway's own did not let the connection through", f.Peer, f.At)
		},
		always("have the forward chains of the gateway's firewall accept translated connections (nft: ct status dnat accept): ftpgate doctor names chains that drop"),
	},
	CodeTooLate: {
		func(f Fault) string {
			return fmt.Sprintf("%s connected to %s only %s after that was announced, when the pinhole had expired", f.Peer, f.At, seconds(f.Waited))
		},
		always("see what keeps the client from connecting at once"),
	},
	CodeServerNever: {
		func(f Fault) string {
			return fmt.Sprintf("the server never connected to %s within %s", f.At, seconds(f.Waited))
		},
		func(f Fault) string {
			return fmt.Sprintf("see whether a firewall between the server and the gateway drops ports %s, or set server_mode = \"passive\"", f.Ports)
		},
	},
	CodeServerData: {
		func(f Fault) string {
			return fmt.Sprintf("the server does not take data connections at %s: %s", f.At, cmp.Or(noWay(f.Err), "no answer"))
		},
		always("open the server's passive ports for the gateway in the server's firewall"),
	},
	CodeClientData: {
		func(f Fault) string {
			return fmt.Sprintf("the client does not take data connections at %s: %s", f.At, cmp.Or(noWay(f.Err), "no answer"))
		},
		always("a firewall on the client's side keeps active mode out: have the client use passive mode"),
	},
	CodeDataReset: {
		func(f Fault) string { return "the data connection broke: " + detail(f) },
		always("see the log of the end that broke it, and what stands between it and the gateway"),
	},
	CodeAborted: {
		func(f Fault) string {
			return fmt.Sprintf("the client called %s off with ABOR", cmp.Or(f.Verb, "the transfer"))
		}, nil,
	},
}

// noWay is why connections did not come about, without the words of system calls.
func noWay(err string) string {
	return strings.NewReplacer("connect: ", "", "i/o timeout", "no answer").Replace(err)
}

// because adds what an error says.
func because(f Fault) string {
	if f.Err == "" {
		return ""
	}
	return " (" + f.Err + ")"
}
