package verdict

import (
	"cmp"
	"net/netip"
	"time"

	"ftpgate/internal/core/forward"
)

// Code names what went wrong, or that nothing did. Codes are part of the interface.
type Code string

// The codes.
const (
	CodeFine    Code = "fine"    // nothing went wrong so far
	CodeWaiting Code = "waiting" // for somebody, who may still come

	CodeServerUnreachable Code = "server_unreachable"
	CodeServerSilent      Code = "server_silent"
	CodeServerTurnedAway  Code = "server_turned_away" // it greets with a no
	CodeServerLeft        Code = "server_left"
	CodeServerTLS         Code = "server_tls"    // no TLS with the server could be agreed upon
	CodeServerNoTLS       Code = "server_no_tls" // it offers none
	CodeServerBadReply    Code = "server_bad_reply"
	CodeServerUnasked     Code = "server_unasked_reply"
	CodeServerLowPort     Code = "server_low_port"
	CodeServerRefusedPORT Code = "server_refused_port"
	CodeServerRefusedPASV Code = "server_refused_pasv"
	CodeServerRefused     Code = "server_refused_transfer"
	CodeLogin             Code = "login_failed"

	CodeClientNotAllowed Code = "client_not_allowed"
	CodeTooMany          Code = "too_many_sessions"
	CodeShutDown         Code = "shut_down"
	CodeLoginTime        Code = "login_time"
	CodeIdle             Code = "idle"
	CodeClientReads      Code = "client_takes_nothing"
	CodeClientLine       Code = "client_bad_line"
	CodeClientLeft       Code = "client_left"
	CodeKilled           Code = "killed"

	CodeThirdParty  Code = "third_party_port"
	CodeLowPort     Code = "low_port"
	CodeFamily      Code = "family"
	CodeNotLoggedIn Code = "not_logged_in"
	CodeCommand     Code = "command_refused"
	CodeNoPorts     Code = "no_ports_left"
	CodeNoPath      Code = "no_data_path"
	CodeTLSRefused  Code = "tls_refused"
	CodeTLSRequired Code = "tls_required"
	CodeClientTLS   Code = "client_tls"
	CodeClientNoTLS Code = "client_no_data_tls"
	CodeReuse       Code = "session_reuse_missing"
	CodeTLSOther    Code = "tls_command_refused"
	CodeServerReuse Code = "server_data_tls"
	CodeTruncated   Code = "truncated"
	CodeNobodyCame  Code = "client_never_connected"
	CodeStranger    Code = "client_from_elsewhere"
	CodeFiltered    Code = "gateway_filter" // the connection came, and did not get through the gateway
	CodeTooLate     Code = "client_too_late"
	CodeServerNever Code = "server_never_connected"
	CodeServerData  Code = "server_data_unreachable"
	CodeClientData  Code = "client_data_unreachable"
	CodeDataReset   Code = "data_broken"
	CodeAborted     Code = "aborted"
)

// Fault is something that went wrong, or was refused, with what there is to be said of it.
type Fault struct {
	Code   Code
	Verb   string            // the command that it is about
	Said   string            // the reply that it got, or why it was refused in plain words
	Peer   netip.Addr        // who is meant, where that is not plain
	At     netip.AddrPort    // where somebody was to connect to
	Ports  forward.PortRange // from which At was drawn
	Waited time.Duration
	Err    string
	Remedy string // in place of the verdict's own; empty: that
	Fatal  bool   // it has ended the session
}

// sentence makes a verdict's words.
type sentence struct {
	text   func(Fault) string
	remedy func(Fault) string
}

// Verdict says it in one sentence, with a remedy in another.
func (f Fault) Verdict() Verdict {
	s, known := controlWords[f.Code]
	if !known {
		s, known = dataWords[f.Code]
	}
	if !known {
		return Verdict{f.Code, cmp.Or(f.Said, f.Err, string(f.Code)), f.Remedy}
	}
	v := Verdict{Code: f.Code, Text: s.text(f), Remedy: f.Remedy}
	if v.Remedy == "" && s.remedy != nil {
		v.Remedy = s.remedy(f)
	}
	return v
}

// Minor tells whether a client gets on all the same after such a fault: it has tried what it could do without.
func (f Fault) Minor() bool {
	switch f.Code {
	case CodeTLSRefused, CodeTLSOther, CodeCommand, CodeFamily, CodeServerUnasked, CodeNotLoggedIn, CodeLogin, CodeTLSRequired:
		return true
	}
	return false
}

// Plain tells whether such an end explains nothing where something had failed before: a client that gave up
// was idle in the end.
func (f Fault) Plain() bool {
	return f.Code == CodeIdle || f.Code == CodeShutDown || f.Code == CodeKilled
}
