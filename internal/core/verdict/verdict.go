package verdict

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// controlSentences hold the sentences for faults of control connections, by code.
var controlSentences = map[Code]sentence{
	CodeServerUnreachable: {
		func(f Fault) string { return "the server cannot be reached: " + cmp.Or(dialError(f.Err), f.Said) },
		always("check that the server runs, that its address and port are right, and that no firewall " +
			"between the gateway and the server drops the connection: ftpgate doctor tries it"),
	},
	CodeServerSilent: {
		func(f Fault) string { return "the server has taken the connection and says nothing" },
		always("check that an FTP server listens there, and whether it speaks TLS from the first byte " +
			"(tls.server = \"implicit\")"),
	},
	CodeServerTurnedAway: {
		func(f Fault) string { return fmt.Sprintf("the server greets with a refusal: %s", f.Said) },
		always("check the server's log and its limit of clients from one address: to the server, all " +
			"clients come from the gateway's address"),
	},
	CodeServerLeft: {
		func(f Fault) string { return cmp.Or(f.Said, "the server has closed the connection") + during(f) },
		always("check the server's log, and its limits of time and of sessions"),
	},
	CodeServerTLS: {
		func(f Fault) string {
			const begin = "no TLS with the server: " // the detail may begin with it, too
			return begin + strings.TrimPrefix(detail(f), begin)
		}, nil,
	},
	CodeServerNoTLS: {
		func(f Fault) string { return cmp.Or(detail(f), "the server does not offer TLS") }, nil,
	},
	CodeServerBadReply: {
		func(f Fault) string { return fmt.Sprintf("%s%s", f.Said, during(f)) },
		always("run ftpgate doctor to see what the server answers; it may not be an FTP server"),
	},
	CodeServerUnasked: {
		func(f Fault) string { return f.Said },
		always("the gateway did not pass the reply on; a server that does this often is faulty or under " +
			"attack"),
	},
	CodeServerLowPort: {
		func(f Fault) string { return cmp.Or(f.Said, "the server offers a port below 1024 for data") },
		always("configure the server's passive ports from 1024 up: the gateway opens no data connection " +
			"to lower ports, where services listen"),
	},
	CodeServerRefusedPORT: {
		func(f Fault) string {
			return fmt.Sprintf("the server refused %s, so that active mode is not possible: %s", f.Verb,
				f.Said)
		},
		always("have the client use passive mode, or set server_mode = \"passive\": the gateway then " +
			"connects to both ends itself"),
	},
	CodeServerRefusedPASV: {
		func(f Fault) string {
			return fmt.Sprintf("the server refused %s, so that passive mode is not possible: %s", f.Verb,
				f.Said)
		},
		always("have the client use active mode, or allow passive mode on the server"),
	},
	CodeServerRefused: {refusedText, refusedRemedy},
	CodeLogin: {
		func(f Fault) string {
			return "the server did not take the login: " + cmp.Or(f.Said, "the name or the password is wrong")
		},
		always("check the user name and the password, and in the server's log whether the server accepts " +
			"logins from the gateway's address"),
	},
	CodeClientNotAllowed: {
		func(f Fault) string { return fmt.Sprintf("%s may not use this forward", f.Peer) },
		always("add its address to the forward's clients if it should have access"),
	},
	CodeTooMany: {
		func(f Fault) string { return "turned away: " + f.Said },
		always("raise max_sessions_per_client or max_sessions if these are legitimate clients: ftpgate " +
			"sessions shows them"),
	},
	CodeShutDown: {
		func(f Fault) string {
			return "ended because the gateway is shutting down, or the forward was taken away"
		}, nil,
	},
	CodeLoginTime: {
		func(f Fault) string { return "the client did not log in in time: " + f.Said },
		always("raise login_time if users need longer"),
	},
	CodeIdle: {
		func(f Fault) string { return "ended because nothing was said: " + f.Said },
		always("raise idle_time, or have the client send NOOP from time to time"),
	},
	CodeClientReads: {
		func(f Fault) string { return f.Said + ": its connection was full for a minute" },
		always("check whether the client hangs, or whether a firewall on the way has dropped the connection"),
	},
	CodeClientLine: {
		func(f Fault) string { return "the client sent something that is not an FTP command: " + f.Said },
		always("check which program it is: a browser, a scanner, or TLS where plain text is expected"),
	},
	CodeClientLeft: {
		func(f Fault) string {
			return fmt.Sprintf("the client closed its control connection while %s ran",
				cmp.Or(f.Verb, "a transfer"))
		},
		always("check the client's log; a firewall that drops idle connections may end the control " +
			"connection during long transfers"),
	},
	CodeKilled: {
		func(f Fault) string { return "ended by an operator" }, nil,
	},
}

// refusedText returns the sentence for a transfer that the server ended with an error, by the code of its
// reply (RFC 959 section 4.2.1).
func refusedText(f Fault) string {
	said := cmp.Or(f.Said, "it gave no reason")
	switch {
	case strings.HasPrefix(said, "426"):
		return fmt.Sprintf("the server broke %s off: %s", f.Verb, said)
	case FailedToConnect(said):
		return fmt.Sprintf("the server could not use the data connection for %s: %s", f.Verb, said)
	}
	return fmt.Sprintf("the server did not carry out %s: %s", f.Verb, said)
}

// refusedRemedy returns where to look for the reason.
func refusedRemedy(f Fault) string {
	code := f.Said[:min(3, len(f.Said))]
	switch {
	case code == "425" || code == "426":
		return "check the logs of the server and of the client: one of them closed or refused the data " +
			"connection"
	case code == "452" || code == "552":
		return "check the free space on the server's disk, and the user's quota"
	case strings.HasPrefix(code, "52") || strings.HasPrefix(code, "53") && code != "532":
		return "check in the server's log what it requires of data connections: encryption (tls.server = " +
			"\"required\"), or resuming the TLS session of the control connection"
	}
	return "this is between the client and the server: check the path, and the user's permissions on the " +
		"server"
}

// always returns a remedy that does not depend on the fault.
func always(text string) func(Fault) string { return func(Fault) string { return text } }

// detail returns what the fault says: the reply or reason, and the error.
func detail(f Fault) string {
	if f.Err != "" && f.Said != "" {
		return f.Said + " (" + f.Err + ")"
	}
	return cmp.Or(f.Said, f.Err)
}

// during names the command, if there is one.
func during(f Fault) string {
	if f.Verb == "" {
		return ""
	}
	return " (during " + f.Verb + ")"
}

// seconds formats a duration for a sentence: whole seconds from one second up.
func seconds(d time.Duration) string {
	if d < time.Second {
		return Round(d).String()
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// Verdict is how a session went, at its end or so far.
type Verdict struct {
	Code   Code   `json:"code"`
	Text   string `json:"text"`             // one sentence
	Remedy string `json:"remedy,omitempty"` // one sentence; empty: there is nothing to do
}
