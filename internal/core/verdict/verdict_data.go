package verdict

import (
	"cmp"
	"fmt"
	"strings"
)

// dataSentences hold the sentences for faults of data connections and of the commands that set them up, by
// code.
var dataSentences = map[Code]sentence{
	CodeThirdParty: {
		func(f Fault) string {
			own := ""
			if f.Peer.IsValid() {
				own = ", " + f.Peer.String()
			}
			return fmt.Sprintf("the client's %s names another address than its own%s: refused",
				cmp.Or(f.Verb, "PORT"), own)
		},
		always("have the client use passive mode: the client is behind NAT itself, or it asks for a " +
			"transfer between two servers, which is not allowed"),
	},
	CodeLowPort: {
		func(f Fault) string { return fmt.Sprintf("%s was refused: %s", cmp.Or(f.Verb, "PORT"), f.Said) },
		always("have the client listen on ports from 1024 up, or use passive mode"),
	},
	CodeFamily: {
		func(f Fault) string {
			return fmt.Sprintf("%s was refused: %s", cmp.Or(f.Verb, "the command"),
				f.Said)
		},
		always("most clients try the other way by themselves; with IPv6 they must use EPSV or EPRT"),
	},
	CodeNotLoggedIn: {
		func(f Fault) string {
			return fmt.Sprintf("the client sent %s before it had logged in",
				cmp.Or(f.Verb, "a transfer command"))
		}, nil,
	},
	CodeCommand: {
		func(f Fault) string {
			return fmt.Sprintf("%s was refused: %s", cmp.Or(f.Verb, "a command"),
				f.Said)
		}, nil,
	},
	CodeNoPorts: {
		func(f Fault) string { return fmt.Sprintf("no passive port was free in %s", f.Ports) },
		always("widen passive_ports, or find out with ftpgate sessions which client holds so many"),
	},
	CodeNoPath: {
		func(f Fault) string { return "no data connection was possible: " + cmp.Or(f.Err, f.Said) },
		always("set data = \"auto\": ftpgate then relays what the kernel cannot carry; the log has the " +
			"error of the operating system"),
	},
	CodeTLSRefused: {
		func(f Fault) string {
			return "the client asked for encryption, which this forward cannot carry: " + f.Said
		}, nil,
	},
	CodeTLSRequired: {
		func(f Fault) string {
			switch f.Verb {
			case "PASV", "EPSV", "PORT", "EPRT", "PROT": // the command itself may have come over TLS
				return fmt.Sprintf(
					"the client asked for data in clear with %s, and this forward requires TLS", f.Verb)
			}
			return fmt.Sprintf("the client sent %s in clear, and this forward requires TLS",
				cmp.Or(f.Verb, "it"))
		},
		always("have the client use explicit FTPS with encrypted data (AUTH TLS, PBSZ 0, PROT P), or set " +
			"tls.client = \"optional\""),
	},
	CodeClientTLS: {
		func(f Fault) string {
			return cmp.Or(f.Said, "the TLS handshake between the client and the gateway failed") +
				withError(f)
		}, nil,
	},
	CodeClientNoTLS: {
		func(f Fault) string {
			return cmp.Or(f.Said, "the client did not start TLS on its data connection") + withError(f)
		}, nil,
	},
	CodeReuse: {
		func(f Fault) string {
			return "the client's data connection did not resume the TLS session of its control connection"
		},
		always("have the client resume TLS sessions, or set tls.session_reuse = false: then whoever " +
			"connects first from the client's address gets the data"),
	},
	CodeTLSOther: {
		func(f Fault) string {
			return fmt.Sprintf("%s was refused: %s", cmp.Or(f.Verb, "a TLS command"), f.Said)
		}, nil,
	},
	CodeServerReuse: {
		func(f Fault) string { return cmp.Or(detail(f), "no TLS with the server on the data connection") },
		always("check the server's log: it may want TLS sessions resumed in a way that the gateway does not"),
	},
	CodeTruncated: {
		func(f Fault) string { return cmp.Or(f.Said, f.Err) }, nil,
	},
	CodeNobodyCame: {
		func(f Fault) string {
			return fmt.Sprintf("the client never connected to %s within %s", f.At, seconds(f.Waited))
		},
		func(f Fault) string {
			return fmt.Sprintf("check whether a firewall between the client and the gateway, or the "+
				"gateway's own firewall, drops "+
				"ports %s, and whether the client can reach %s at all", f.Ports, f.At.Addr())
		},
	},
	CodeStranger: {
		func(f Fault) string {
			return fmt.Sprintf("%s connected to %s, where only %s may: the client's data connection comes "+
				"from another address "+
				"than its control connection", f.Peer, f.At, f.Err)
		},
		always("make the client's NAT or proxy use one address for all connections of a client (a pool of " +
			"addresses does not)"),
	},
	CodeFiltered: {
		func(f Fault) string {
			return fmt.Sprintf("%s connected to %s, and the gateway's own firewall did not let the "+
				"connection through", f.Peer,
				f.At)
		},
		always("have the forward chains of the gateway's firewall accept translated connections (nft: ct " +
			"status dnat accept): ftpgate doctor names the chains that drop"),
	},
	CodeTooLate: {
		func(f Fault) string {
			return fmt.Sprintf("%s connected to %s only %s after the port was announced: the pinhole had "+
				"expired", f.Peer, f.At,
				seconds(f.Waited))
		},
		always("find out what keeps the client from connecting at once"),
	},
	CodeServerNever: {
		func(f Fault) string {
			return fmt.Sprintf("the server never connected to %s within %s", f.At, seconds(f.Waited))
		},
		func(f Fault) string {
			return fmt.Sprintf("check whether a firewall between the server and the gateway drops ports "+
				"%s, or set "+
				"server_mode = \"passive\"", f.Ports)
		},
	},
	CodeServerData: {
		func(f Fault) string {
			return fmt.Sprintf("the server does not take data connections at %s: %s", f.At,
				cmp.Or(dialError(f.Err), "no answer"))
		},
		always("open the server's passive ports to the gateway in the server's firewall"),
	},
	CodeClientData: {
		func(f Fault) string {
			return fmt.Sprintf("the client does not take data connections at %s: %s", f.At,
				cmp.Or(dialError(f.Err), "no answer"))
		},
		always("a firewall on the client's side blocks active mode: have the client use passive mode"),
	},
	CodeDataReset: {
		func(f Fault) string { return "the data connection broke: " + detail(f) },
		always("check the log of the end that broke it, and the firewalls between it and the gateway"),
	},
	CodeAborted: {
		func(f Fault) string {
			return fmt.Sprintf("the client aborted %s with ABOR", cmp.Or(f.Verb, "the transfer"))
		}, nil,
	},
}

// dialError returns why a connection failed, without the names of system calls.
func dialError(err string) string {
	return strings.NewReplacer("connect: ", "", "i/o timeout", "no answer").Replace(err)
}

// withError returns the error in parentheses, if there is one.
func withError(f Fault) string {
	if f.Err == "" {
		return ""
	}
	return " (" + f.Err + ")"
}
