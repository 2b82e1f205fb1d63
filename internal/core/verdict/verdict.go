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
		says("the server cannot be reached: {dial error|said}"),
		says("check that the server runs, that its address and port are right, and that no firewall " +
			"between the gateway and the server drops the connection: ftpgate doctor tries it"),
	},
	CodeServerSilent: {
		says("the server accepted the connection but sent no greeting"),
		says("check that an FTP server listens there, and whether it speaks TLS from the first byte " +
			"(tls.server = \"implicit\")"),
	},
	CodeServerTurnedAway: {
		says("the server greets with a refusal: {said}"),
		says("check the server's log and its limit of clients from one address: to the server, all " +
			"clients come from the gateway's address"),
	},
	CodeServerLeft: {
		says("{said|the server has closed the connection}{during}"),
		says("check the server's log, and its limits of time and of sessions"),
	},
	CodeServerTLS: {
		func(f Fault) string {
			const begin = "no TLS with the server: " // the detail may begin with it, too
			return begin + strings.TrimPrefix(detail(f), begin)
		}, nil,
	},
	CodeServerNoTLS: {says("{detail|the server does not offer TLS}"), nil},
	CodeServerBadReply: {
		says("{said}{during}"),
		says("run ftpgate doctor to see what the server answers; it may not be an FTP server"),
	},
	CodeServerUnaskedReply: {
		says("{said}"),
		says("the gateway did not pass the reply on; a server that does this often is faulty or under " +
			"attack"),
	},
	CodeServerLowPort: {
		says("{said|the server offers a port below 1024 for data}"),
		says("configure the server's passive ports from 1024 up: the gateway opens no data connection " +
			"to lower ports, where services listen"),
	},
	CodeServerRefusedPORT: {
		says("the server refused {verb}, so that active mode is not possible: {said}"),
		says("have the client use passive mode, or set server_mode = \"passive\": the gateway then " +
			"connects to both ends itself"),
	},
	CodeServerRefusedPASV: {
		says("the server refused {verb}, so that passive mode is not possible: {said}"),
		says("have the client use active mode, or allow passive mode on the server"),
	},
	CodeServerRefusedTransfer: {refusedText, refusedRemedy},
	CodeLoginFailed: {
		says("the server rejected the login: {said|the name or the password is wrong}"),
		says("check the user name and the password, and in the server's log whether the server accepts " +
			"logins from the gateway's address"),
	},
	CodeClientNotAllowed: {
		says("{peer} may not use this forward"),
		says("add its address to the forward's clients if it should have access"),
	},
	CodeTooManySessions: {
		says("rejected: {said}"),
		says("raise max_sessions_per_client or max_sessions if these are legitimate clients: ftpgate " +
			"sessions shows them"),
	},
	CodeShutDown: {
		says("ended because {said|the gateway is shutting down}"), nil,
	},
	CodeLoginTime: {
		says("the client did not log in in time: {said}"),
		says("raise login_time if users need longer"),
	},
	CodeIdle: {
		says("timed out: {said}"),
		says("raise idle_time, or have the client send NOOP from time to time"),
	},
	CodeClientTakesNothing: {
		says("the client stopped reading: its receive window was full for a minute"),
		says("check whether the client hangs, or whether a firewall on the way has dropped the connection"),
	},
	CodeClientBadLine: {
		says("the client sent something that is not an FTP command: {said}"),
		says("check which program it is: a browser, a scanner, or TLS where plain text is expected"),
	},
	CodeClientLeft: {
		says("the client closed its control connection while {verb|a transfer} ran"),
		says("check the client's log; a firewall that drops idle connections may end the control " +
			"connection during long transfers"),
	},
	CodeKilled: {says("ended by an operator"), nil},
}

// says returns the sentence of a template. In braces stands a word for what the fault knows (words), and
// after a | what replaces an empty one: another word, or text.
func says(template string) func(Fault) string {
	return func(f Fault) string {
		known := f.words()
		var b strings.Builder
		for rest := template; rest != ""; {
			var text, field string
			text, rest, _ = strings.Cut(rest, "{")
			field, rest, _ = strings.Cut(rest, "}")
			word, other, _ := strings.Cut(field, "|")
			value, isWord := known[word]
			if !isWord && field != "" {
				panic(fmt.Sprintf("verdict: %q in %q", word, template))
			}
			if value == "" {
				if value, isWord = known[other]; !isWord {
					value = other
				}
			}
			b.WriteString(text + value)
		}
		return b.String()
	}
}

// words returns what the fault knows, by the words of templates. A word without a value is empty.
func (f Fault) words() map[string]string {
	andPeer := ""
	if f.Peer.IsValid() {
		andPeer = ", " + f.Peer.String()
	}
	return map[string]string{
		"verb": f.Verb, "said": f.Said, "error": f.Err, "dial error": dialError(f.Err), "detail": detail(f),
		"during":     enclosed("during ", f.Verb),
		"with error": enclosed("", f.Err),
		"peer":       f.Peer.String(),
		", peer":     andPeer,
		"at":         f.At.String(),
		"host":       f.At.Addr().String(),
		"ports":      f.Ports.String(),
		"waited":     seconds(f.Waited),
	}
}

// enclosed returns a value in parentheses, if there is one.
func enclosed(before, value string) string {
	if value == "" {
		return ""
	}
	return " (" + before + value + ")"
}

// dialError returns why a connection failed, without the names of system calls.
func dialError(err string) string {
	return strings.NewReplacer("connect: ", "", "i/o timeout", "no answer").Replace(err)
}

// detail returns what the fault says: the reply or reason, and the error.
func detail(f Fault) string {
	if f.Said != "" {
		return f.Said + enclosed("", f.Err)
	}
	return f.Err
}

// refusedText returns the sentence for a transfer that the server ended with an error, by the code of its
// reply (RFC 959 section 4.2.1).
func refusedText(f Fault) string {
	said := cmp.Or(f.Said, "it gave no reason")
	switch {
	case strings.HasPrefix(said, "426"):
		return fmt.Sprintf("the server aborted %s: %s", f.Verb, said)
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
