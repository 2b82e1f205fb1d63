package verdict

import (
	"cmp"
	"fmt"
	"strings"
)

// controlSentences hold the sentences for faults of control connections, by code.
var controlSentences = map[Code]sentence{
	CodeServerUnreachable: {
		says("the server cannot be reached: {dial error|reason}"),
		says("check that the server runs, that its address and port are right, and that no firewall " +
			"between the gateway and the server drops the connection: ftpgate doctor tries it"),
	},
	CodeServerSilent: {
		says("the server accepted the connection but sent no greeting"),
		says("check that an FTP server listens there, and whether it speaks TLS from the first byte " +
			"(tls.server = \"implicit\")"),
	},
	CodeServerTurnedAway: {
		says("the server greets with a refusal: {reason}"),
		says("check the server's log and its limit of clients from one address: to the server, all " +
			"clients come from the gateway's address"),
	},
	CodeServerLeft: {
		says("{reason|the server closed the connection}{during}"),
		says("check the server's log, and its idle and session limits"),
	},
	CodeServerTLS: {
		func(f Fault) string {
			const begin = "no TLS with the server: " // the detail may also begin with it
			return begin + strings.TrimPrefix(detail(f), begin)
		}, nil,
	},
	CodeServerNoTLS: {says("{detail|the server does not offer TLS}"), nil},
	CodeServerBadReply: {
		says("{reason}{during}"),
		says("run ftpgate doctor to see what the server answers; it may not be an FTP server"),
	},
	CodeServerUnaskedReply: {
		says("{reason}"),
		says("the gateway did not pass the reply on; a server that does this often is faulty or under " +
			"attack"),
	},
	CodeServerLowPort: {
		says("{reason|the server offers a port below 1024 for data}"),
		says("configure the server's passive ports from 1024 up: the gateway opens no data connection " +
			"to lower ports, where services listen"),
	},
	CodeServerRefusedPORT: {
		says("the server refused {verb}, so that active mode is not possible: {reason}"),
		says("have the client use passive mode, or set server_mode = \"passive\": the gateway then " +
			"connects to both ends itself"),
	},
	CodeServerRefusedPASV: {
		says("the server refused {verb}, so that passive mode is not possible: {reason}"),
		says("have the client use active mode, or allow passive mode on the server"),
	},
	CodeServerRefusedTransfer: {refusedText, refusedRemedy},
	CodeServerRefusedCommand:  {says("the server refused {verb|a command}: {reason}"), refusedRemedy},
	CodeServerNoReply: {
		says("the server did not answer {verb|a command} within {waited}"),
		says("check in the server's log what it waits for: a disk, a lookup of names, a backend"),
	},
	CodeLoginFailed: {
		says("the server rejected the login: {reason|the name or the password is wrong}"),
		says("check the user name and the password, and in the server's log whether the server accepts " +
			"logins from the gateway's address"),
	},
	CodeServerUnknown: {
		says("the name of the server that the client named has no address: {detail|reason}"),
		says("check the name, and whether the gateway's resolver knows it"),
	},
	CodeGatewayLoginFailed: {
		says("the client's login to the gateway itself failed"),
		says("check the proxy user and password in the client's settings"),
	},
	CodeClientNotAllowed: {
		says("{peer} may not use this forward"),
		says("add its address to the forward's clients if it should have access"),
	},
	CodeServerNotAllowed: {
		says("the client may not reach the server: {detail|reason}"),
		says("if it should, name the server in servers of the outbound, or take it out of deny_servers"),
	},
	CodeBanned: {
		says("{peer} is banned"),
		says("ftpgate bans says since when and why, and ftpgate unban lifts it; if the client is not " +
			"there, take it out of deny in the file and reload"),
	},
	CodeBadProxyHeader: {
		says("{reason|the balancer sent no valid PROXY protocol header}{with error}"),
		says("have the balancer send the header on connections to this forward (HAProxy: send-proxy-v2), " +
			"or take its address out of accept_proxy_protocol"),
	},
	CodeUnexpectedProxyHeader: {
		says("{peer} began with a PROXY protocol header, which only a balancer may send"),
		says("if it is a balancer, add its address to accept_proxy_protocol; a client that sends a header " +
			"itself tries to hide its address"),
	},
	CodeTooManySessions: {
		says("rejected: {reason}"),
		says("raise max_sessions_per_client or max_sessions if these are legitimate clients: ftpgate " +
			"sessions shows them"),
	},
	CodeShutDown: {
		says("ended because {reason|the gateway is shutting down}"), nil,
	},
	CodeLoginTime: {
		says("the client did not log in in time: {reason}"),
		says("raise login_time if users need longer"),
	},
	CodeIdle: {
		says("timed out: {reason}"),
		says("raise idle_time, or have the client send NOOP from time to time"),
	},
	CodeClientTakesNothing: {
		says("the client stopped reading: its receive window was full for a minute"),
		says("check whether the client hangs, or whether a firewall on the way has dropped the connection"),
	},
	CodeClientBadLine: {
		says("the client sent something that is not an FTP command: {reason}"),
		says("check which program it is: a browser, a scanner, or TLS where plain text is expected"),
	},
	CodeTooManyRefusals: {
		says("ended after too many refusals"),
		says("find out which program the client is, and what it wants: ftpgate explain has its commands"),
	},
	CodeClientSpeaksHTTP: {
		says("the client speaks HTTP, not FTP: probably a browser, or a program that takes the gateway for " +
			"an HTTP proxy"),
		says("have the users install an FTP client; if it continues, a web page may be using their " +
			"browsers against the server (ALPACA, NAT slipstreaming)"),
	},
	CodeClientSpeaksSSH: {
		says("the client speaks SSH, not FTP: an SSH client, or an SFTP client"),
		says("have it connect to the server's SSH port: SFTP is another protocol than FTP"),
	},
	CodeClientBeginsTLS: {
		says("the client began with TLS where plain text is expected: {reason}"), nil,
	},
	CodeClientLeft: {
		says("the client closed its control connection while {verb|a transfer} ran"),
		says("check the client's log; a firewall that drops idle connections may end the control " +
			"connection during long transfers"),
	},
	CodeKilled: {says("ended by an operator"), nil},
}

// refusedText returns the sentence for a transfer that the server ended with an error, by the code of its
// reply (RFC 959 section 4.2.1).
func refusedText(f Fault) string {
	reply := cmp.Or(f.Reason, "it gave no reason")
	switch {
	case strings.HasPrefix(reply, "426"):
		return fmt.Sprintf("the server reports that %s broke off: %s", f.Verb, reply)
	case FailedToConnect(reply):
		return fmt.Sprintf("the server could not use the data connection for %s: %s", f.Verb, reply)
	}
	return fmt.Sprintf("the server did not carry out %s: %s", f.Verb, reply)
}

// refusedRemedy returns where to find the reason.
func refusedRemedy(f Fault) string {
	code := f.Reason[:min(3, len(f.Reason))]
	switch {
	case code == "425" || code == "426":
		return "check the logs of the server and of the client: probably one of them closed or refused the " +
			"data connection"
	case code == "452" || code == "552":
		return "check the free space on the server's disk, and the user's quota"
	case strings.HasPrefix(code, "52") || strings.HasPrefix(code, "53") && code != "532":
		return "check in the server's log what it requires of data connections: encryption (tls.server = " +
			"\"required\"), or resuming the TLS session of the control connection"
	}
	return "this is between the client and the server: check the path, and the user's permissions on the " +
		"server"
}
