package dialogue

import (
	"ftpgate/internal/core/verdict"
)

// Refusal says what was refused, corrected or cut off, and why. With the kind NotRefused and a code it is a
// refusal by the server, which the client reads in the server's own words.
type Refusal struct {
	Kind   RefusalKind
	Code   verdict.Code // empty: the usual one of its kind
	Reason string       // in plain words, without anything that a peer sent
	Remedy string       // what the operator can do about it; empty: the verdict's own
}

// RefusalKind is the kind of a refusal. Each has a counter.
type RefusalKind uint8

// The kinds of refusals.
const (
	NotRefused      RefusalKind = iota
	RefusedClient               // a client that may not use the forward
	RefusedLimit                // too many sessions
	RefusedDrain                // a client that comes while the gateway shuts down
	RefusedServer               // the server cannot be reached, does not answer, or left
	RefusedTime                 // no login, no command or no reading within the limit
	RefusedLine                 // not an FTP line: too long, a NUL, no command, a reply from the client
	RefusedLogin                // a login that the server refused
	RefusedEarly                // a data command before login
	RefusedCommand              // a command that cannot work here or now
	RefusedSecurity             // AUTH, and what follows it (RFC 2228)
	RefusedFamily               // an address family that is not the connection's
	RefusedAddress              // PORT or EPRT to somebody else
	RefusedPort                 // a data connection to a service's port
	RefusedReply                // a reply that nobody asked for
	RefusedAnswer               // a reply that does not fit its command, or is not FTP
	RefusedNoPort               // the data path has no pinhole
	RefusedTransfer             // a data connection that broke
	RefusalKinds                // how many kinds there are
)

// words are the kinds in logs and metrics. They are part of the interface: dashboards know them.
var words = [RefusalKinds]string{
	NotRefused:      "none",
	RefusedClient:   "client",
	RefusedLimit:    "limit",
	RefusedDrain:    "drain",
	RefusedServer:   "unreachable",
	RefusedTime:     "time",
	RefusedLine:     "line",
	RefusedLogin:    "login",
	RefusedEarly:    "not_logged_in",
	RefusedCommand:  "command",
	RefusedSecurity: "encryption",
	RefusedFamily:   "family",
	RefusedAddress:  "address",
	RefusedPort:     "port",
	RefusedReply:    "unasked_reply",
	RefusedAnswer:   "bad_reply",
	RefusedNoPort:   "no_port",
	RefusedTransfer: "broken_transfer",
}

// RefusalNames returns the words of all kinds but NotRefused, in their order.
func RefusalNames() (names []string) {
	for kind := NotRefused + 1; kind < RefusalKinds; kind++ {
		names = append(names, kind.String())
	}
	return names
}

// String returns a stable word in snake case, "unknown" for a number that is no kind.
func (k RefusalKind) String() string {
	if k < RefusalKinds {
		return words[k]
	}
	return "unknown"
}
