package verdict

// Refusal says what was refused, corrected or cut off, and why. With the kind NotRefused and a code it is a
// refusal by the server, whose reply the client reads.
type Refusal struct {
	Kind   RefusalKind
	Code   Code   // empty: the usual one of its kind
	Reason string // in words for the client, without any text of a peer's
	Remedy string // what the operator can do about it; empty: the verdict's own
}

// RefusalKind is the kind of a refusal. Each has a counter.
type RefusalKind uint8

// The kinds of refusals.
const (
	NotRefused    RefusalKind = iota
	RefusedClient             // the client may not use the forward
	RefusedServer             // the client may not reach the server that it has chosen
	RefusedBanned             // the client is banned
	// a PROXY protocol header that is missing, wrong, or from a client
	RefusedProxyHeader
	RefusedLimit // too many sessions
	RefusedDrain // the client connected while the gateway or its forward stops
	// the server cannot be reached, does not answer, turns clients away, or left
	RefusedUnreachable
	RefusedTime           // no login, no command or no reading within the limit
	RefusedLine           // not an FTP line: too long, a NUL, no command, a reply from the client
	RefusedLogin          // the server refused a login
	RefusedNotLoggedIn    // a data command before login
	RefusedCommand        // a command that cannot work here or now
	RefusedEncryption     // AUTH, and what follows it (RFC 2228)
	RefusedFamily         // an address family that is not the connection's
	RefusedAddress        // PORT or EPRT to another host
	RefusedPort           // a data connection to a service's port
	RefusedUnaskedReply   // an unsolicited reply
	RefusedBadReply       // a reply that does not fit its command, or is not FTP
	RefusedNoPort         // the data path has no pinhole
	RefusedBrokenTransfer // a data connection that broke
	RefusalKinds          // how many kinds there are
)

// kinds has the label of each kind in logs and metrics, and its usual code. Labels are part of the interface:
// dashboards use them.
var kinds = [RefusalKinds]struct {
	label string
	code  Code
}{
	NotRefused:            {"none", ""},
	RefusedClient:         {"client", CodeClientNotAllowed},
	RefusedServer:         {"server", CodeServerNotAllowed},
	RefusedBanned:         {"banned", CodeBanned},
	RefusedProxyHeader:    {"proxy_header", CodeBadProxyHeader},
	RefusedLimit:          {"limit", CodeTooManySessions},
	RefusedDrain:          {"drain", CodeShutDown},
	RefusedUnreachable:    {"unreachable", CodeServerUnreachable},
	RefusedTime:           {"time", CodeIdle},
	RefusedLine:           {"line", CodeClientBadLine},
	RefusedLogin:          {"login", CodeLoginFailed},
	RefusedNotLoggedIn:    {"not_logged_in", CodeNotLoggedIn},
	RefusedCommand:        {"command", CodeCommandRefused},
	RefusedEncryption:     {"encryption", CodeTLSCommandRefused},
	RefusedFamily:         {"family", CodeFamily},
	RefusedAddress:        {"address", CodeThirdPartyPort},
	RefusedPort:           {"port", CodeLowPort},
	RefusedUnaskedReply:   {"unasked_reply", CodeServerUnaskedReply},
	RefusedBadReply:       {"bad_reply", CodeServerBadReply},
	RefusedNoPort:         {"no_port", CodeNoDataPath},
	RefusedBrokenTransfer: {"broken_transfer", CodeDataBroken},
}

// RefusalNames returns the labels of all kinds but NotRefused, in their order.
func RefusalNames() (names []string) {
	for kind := NotRefused + 1; kind < RefusalKinds; kind++ {
		names = append(names, kind.String())
	}
	return names
}

// String returns a stable label in snake case, "unknown" for a number that is no kind.
func (k RefusalKind) String() string {
	if k < RefusalKinds {
		return kinds[k].label
	}
	return "unknown"
}

// Code returns the usual code of the kind; empty for NotRefused.
func (k RefusalKind) Code() Code { return kinds[k].code }
