package verdict

import (
	"cmp"
	"fmt"
	"strings"
)

// dataSentences hold the sentences for faults of data connections and of the commands that set them up, by
// code.
var dataSentences = map[Code]sentence{
	CodeThirdPartyPort: {
		says("the client's {verb|PORT} names another address than its own{, peer}: refused"),
		says("have the client use passive mode: the client is behind NAT itself, or it asks for a " +
			"transfer between two servers, which is not allowed"),
	},
	CodeLowPort: {
		says("{verb|PORT} was refused: {reason}"),
		says("have the client listen on ports from 1024 up, or use passive mode"),
	},
	CodeFamily: {
		says("{verb|the command} was refused: {reason}"),
		says("most clients try the other way by themselves; with IPv6 they must use EPSV or EPRT"),
	},
	CodeNotLoggedIn: {
		says("the client sent {verb|a transfer command} before it had logged in"), nil,
	},
	CodeCommandRefused: {says("{verb|a command} was refused: {reason}"), nil},
	CodeNoPortsLeft: {
		says("no passive port was free in {ports}"),
		says("widen passive_ports, or use ftpgate sessions to find the client that holds them"),
	},
	CodeNoDataPath: {
		says("the gateway could not open a data connection: {error|reason}"),
		says("set data = \"auto\": ftpgate then relays what the kernel cannot carry; the log has the " +
			"error of the operating system"),
	},
	CodeTLSRefused: {
		says("the client asked for encryption, which this forward cannot carry: {reason}"), nil,
	},
	CodeTLSRequired: {
		func(f Fault) string {
			switch f.Verb {
			case "PASV", "EPSV", "PORT", "EPRT", "PROT": // the command itself may have been sent over TLS
				return fmt.Sprintf(
					"the client asked for data in clear with %s, and this forward requires TLS", f.Verb)
			}
			return fmt.Sprintf("the client sent %s in clear, and this forward requires TLS", cmp.Or(f.Verb,
				"a command"))
		},
		says("have the client use explicit FTPS with encrypted data (AUTH TLS, PBSZ 0, PROT P), or set " +
			"tls.client = \"optional\""),
	},
	CodeClientTLS: {
		says("{reason|the TLS handshake between the client and the gateway failed}{with error}"), nil,
	},
	CodeClientCertificate: {
		says("{reason|the client's certificate was refused}{with error}"),
		says("check the client's certificate against tls.client_ca and tls.client_crl"),
	},
	CodeClientNoDataTLS: {
		says("{reason|the client did not start TLS on its data connection}{with error}"), nil,
	},
	CodeSessionReuseMissing: {
		says("the client's data connection did not resume the TLS session of its control connection"),
		says("have the client resume TLS sessions, or set tls.session_reuse = false: then any " +
			"program at the client's address that connects first gets the data"),
	},
	CodeTLSCommandRefused: {says("{verb|a TLS command} was refused: {reason}"), nil},
	CodeServerDataTLS: {
		says("{detail|no TLS with the server on the data connection}"),
		says("check the server's log: it may want TLS sessions resumed in a way that the gateway does not"),
	},
	CodeTruncated: {says("{reason|error}"), nil},
	CodeClientNeverConnected: {
		says("the client never connected to {at} within {waited}"),
		says("check whether a firewall between the client and the gateway, or the gateway's own firewall, " +
			"drops ports {ports}, and whether the client can reach {host} at all"),
	},
	CodeClientFromElsewhere: {
		says("{peer} connected to {at}, which is reserved for {expected}: the client's data connection " +
			"comes from " +
			"another address than its control connection"),
		says("make the client's NAT or proxy use one address for all connections of a client (a pool of " +
			"addresses does not)"),
	},
	CodeGatewayFilter: {
		says("{peer} connected to {at}, and the gateway's own firewall did not let the connection through"),
		says("have the forward chains of the gateway's firewall accept translated connections (nft: ct " +
			"status dnat accept): ftpgate doctor names the chains that drop"),
	},
	CodeRulesRemoved: {
		says("{peer} connected to {at}, probably while another program had removed ftpgate's rules"),
		says("have that program leave tables alone that are not its own (nft flush ruleset removes all): " +
			"the log names it"),
	},
	CodeClientTooLate: {
		says("{peer} connected to {at} only {waited} after the port was announced: the pinhole was closed " +
			"by then"),
		says("find out what keeps the client from connecting at once"),
	},
	CodeForgedConnections: {
		says("connections to {at} were begun with the address {peer}, probably forged, and not " +
			"completed, until the pinhole admitted no more"),
		says("have the network drop packets with forged source addresses (RFC 2827), or set data = " +
			"\"relay\", which forged packets do not reach"),
	},
	CodeServerNeverConnected: {
		says("the server never connected to {at} within {waited}"),
		says("check whether a firewall between the server and the gateway drops ports {ports}, or set " +
			"server_mode = \"passive\""),
	},
	CodeServerFromElsewhere: {
		says("{peer} connected to {at}, which is reserved for {expected}: the server's data connection " +
			"comes from " +
			"another address than the gateway connects to"),
		says("have the server send data from the address that the gateway connects to (listen address, " +
			"source address, its own NAT), or set server_mode = \"passive\""),
	},
	CodeServerDataUnreachable: {
		says("the server does not accept data connections at {at}: {dial error|no answer}{named}"),
		unreachableRemedy,
	},
	CodeClientDataUnreachable: {
		says("the client does not accept data connections at {at}: {dial error|no answer}"),
		says("a firewall on the client's side blocks active mode: have the client use passive mode"),
	},
	CodeDataBroken: {
		says("the data connection broke: {detail}"),
		says("check the log of the end that broke it, and the firewalls between it and the gateway"),
	},
	CodeDataStalled: {
		says("nothing has moved over the data connection of {verb|the transfer} for {waited}"),
		says("check which end waits for the other one, and the firewalls between them"),
	},
	CodeAborted: {says("the client aborted {verb|the transfer} with ABOR"), nil},
}

// unreachableRemedy returns what to do about a server whose passive port does not answer, or refuses.
func unreachableRemedy(f Fault) string {
	switch {
	case f.Named.IsValid():
		return fmt.Sprintf("have the server accept data connections at the address of its control "+
			"connection, %s: the gateway connects to no other host", f.At.Addr())
	case strings.Contains(f.Err, "refused"):
		return "probably nothing listens there yet, or a firewall rejects it: check the server's passive " +
			"ports, and whether it listens as soon as it has announced one"
	}
	return "open the server's passive ports to the gateway in the server's firewall"
}
