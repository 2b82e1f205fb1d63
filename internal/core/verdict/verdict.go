package verdict

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// controlWords are the words for faults of control connections, by code.
var controlWords = map[Code]sentence{
	CodeServerUnreachable: {
		func(f Fault) string { return "the server cannot be reached: " + cmp.Or(noWay(f.Err), f.Said) },
		always("see that the server runs, that its address and port are right, and that nothing between the gateway and it drops the connection: ftpgate doctor tries it"),
	},
	CodeServerSilent: {
		func(f Fault) string { return "the server has taken the connection and says nothing" },
		always("see whether it is an FTP server that listens there, and whether it speaks TLS from the first byte (tls.server = \"implicit\")"),
	},
	CodeServerTurnedAway: {
		func(f Fault) string { return fmt.Sprintf("the server greets with a no: %s", f.Said) },
		always("see the server's log and its limits for clients of one address: all clients of the gateway come from the gateway's"),
	},
	CodeServerLeft: {
		func(f Fault) string { return cmp.Or(f.Said, "the server has closed the connection") + behind(f) },
		always("see in the server's log why, and whether it has limits of time or of sessions"),
	},
	CodeServerTLS: {
		func(f Fault) string {
			const begin = "no TLS with the server: " // which what is said may have
			return begin + strings.TrimPrefix(detail(f), begin)
		}, nil,
	},
	CodeServerNoTLS: {
		func(f Fault) string { return cmp.Or(detail(f), "the server does not offer TLS") }, nil,
	},
	CodeServerBadReply: {
		func(f Fault) string { return fmt.Sprintf("%s%s", f.Said, behind(f)) },
		always("see with ftpgate doctor what the server answers; another program than an FTP server may listen there"),
	},
	CodeServerUnasked: {
		func(f Fault) string { return f.Said },
		always("the gateway has kept the reply from the client; a server that does this often is broken, or somebody steers it"),
	},
	CodeServerLowPort: {
		func(f Fault) string { return cmp.Or(f.Said, "the server offers a port below 1024 for data") },
		always("give the server passive ports from 1024 on; below are the ports of services, and no data connection goes there"),
	},
	CodeServerRefusedPORT: {
		func(f Fault) string {
			return fmt.Sprintf("the server refused %s, so that active mode is not possible: %s", f.Verb, f.Said)
		},
		always("have the client use passive mode, or set server_mode = \"passive\": the gateway then connects to both ends itself"),
	},
	CodeServerRefusedPASV: {
		func(f Fault) string {
			return fmt.Sprintf("the server refused %s, so that passive mode is not possible: %s", f.Verb, f.Said)
		},
		always("have the client use active mode, or allow passive mode at the server"),
	},
	CodeServerRefused: {refusedText, refusedRemedy},
	CodeLogin: {
		func(f Fault) string {
			return "the server did not take the login: " + cmp.Or(f.Said, "the name or the password is wrong")
		},
		always("see the user's name and password, and in the server's log whether it lets clients in that come from the gateway's address"),
	},
	CodeClientNotAllowed: {
		func(f Fault) string { return fmt.Sprintf("%s may not use this forward", f.Peer) },
		always("add its address to the forward's clients, if it is to come in"),
	},
	CodeTooMany: {
		func(f Fault) string { return "turned away: " + f.Said },
		always("raise max_sessions_per_client, or max_sessions, if these are honest clients: ftpgate sessions shows them"),
	},
	CodeShutDown: {
		func(f Fault) string {
			return "ended because the gateway is shutting down, or the forward was taken away"
		}, nil,
	},
	CodeLoginTime: {
		func(f Fault) string { return "the client did not log in in time: " + f.Said },
		always("raise login_time, if people need longer"),
	},
	CodeIdle: {
		func(f Fault) string { return "ended because nothing was said: " + f.Said },
		always("raise idle_time, or have the client send NOOP now and then"),
	},
	CodeClientReads: {
		func(f Fault) string { return f.Said + ": its connection was full for a minute" },
		always("see whether the client hangs, or a firewall on its way has forgotten the connection"),
	},
	CodeClientLine: {
		func(f Fault) string { return "the client sent what is no FTP command: " + f.Said },
		always("see what program it is: a browser, a scanner, or TLS where plain text is meant"),
	},
	CodeClientLeft: {
		func(f Fault) string {
			return fmt.Sprintf("the client closed its control connection while %s ran", cmp.Or(f.Verb, "a transfer"))
		},
		always("see the client's log; a firewall that forgets quiet connections ends them during long transfers"),
	},
	CodeKilled: {
		func(f Fault) string { return "ended by an operator" }, nil,
	},
}

// refusedText says that the server has called a transfer off, by the code of its reply (RFC 959 section 4.2.1).
func refusedText(f Fault) string {
	said := cmp.Or(f.Said, "it has not said why")
	switch {
	case strings.HasPrefix(said, "426"):
		return fmt.Sprintf("the server broke %s off: %s", f.Verb, said)
	case FailedToConnect(said):
		return fmt.Sprintf("the server could not use the data connection for %s: %s", f.Verb, said)
	}
	return fmt.Sprintf("the server did not carry out %s: %s", f.Verb, said)
}

// refusedRemedy is where to look for that.
func refusedRemedy(f Fault) string {
	code := f.Said[:min(3, len(f.Said))]
	switch {
	case code == "425" || code == "426":
		return "see the logs of the server and of the client: one of them closed the data connection, or did not take it"
	case code == "452" || code == "552":
		return "see the room on the server's disk, and the user's quota"
	case strings.HasPrefix(code, "52") || strings.HasPrefix(code, "53") && code != "532":
		return "see in the server's log what it asks of data connections: to be encrypted (tls.server = \"required\"), or to resume the TLS session of the control connection"
	}
	return "this is between the client and the server: see the path, and what the server's user may do"
}

// always is a remedy for every case.
func always(text string) func(Fault) string { return func(Fault) string { return text } }

// detail is what a fault says of itself.
func detail(f Fault) string {
	if f.Err != "" && f.Said != "" {
		return f.Said + " (" + f.Err + ")"
	}
	return cmp.Or(f.Said, f.Err)
}

// behind names the command, if there is one.
func behind(f Fault) string {
	if f.Verb == "" {
		return ""
	}
	return " (during " + f.Verb + ")"
}

// seconds is a time for people.
func seconds(d time.Duration) string {
	if d < time.Second {
		return Round(d).String()
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// Verdict is what is to be said of a session in the end, or so far.
type Verdict struct {
	Code   Code   `json:"code"`
	Text   string `json:"text"`             // one sentence
	Remedy string `json:"remedy,omitempty"` // one sentence; empty: nothing is to be done
}
