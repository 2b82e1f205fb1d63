// Package verdict says why a session failed: a code for programs, and one sentence and one remedy for people.
package verdict

import (
	"cmp"
	"net/netip"
	"time"

	"ftpgate/internal/core/forward"
)

// Code names a fault, or the lack of one. Codes are part of the interface: programs compare them.
type Code string

// The codes.
const (
	CodeFine    Code = "fine"    // nothing went wrong so far
	CodeWaiting Code = "waiting" // a peer has not connected yet, and still may

	CodeServerUnreachable     Code = "server_unreachable"
	CodeServerSilent          Code = "server_silent"
	CodeServerTurnedAway      Code = "server_turned_away" // its greeting is a refusal
	CodeServerLeft            Code = "server_left"
	CodeServerTLS             Code = "server_tls"    // the TLS handshake with the server failed
	CodeServerNoTLS           Code = "server_no_tls" // it offers no TLS
	CodeServerBadReply        Code = "server_bad_reply"
	CodeServerUnaskedReply    Code = "server_unasked_reply"
	CodeServerLowPort         Code = "server_low_port"
	CodeServerRefusedPORT     Code = "server_refused_port"
	CodeServerRefusedPASV     Code = "server_refused_pasv"
	CodeServerRefusedTransfer Code = "server_refused_transfer"
	CodeServerRefusedCommand  Code = "server_refused_command" // another command than a transfer's
	CodeServerNoReply         Code = "server_no_reply"
	CodeLoginFailed           Code = "login_failed"
	CodeServerUnknown         Code = "server_unknown"       // the name that the client gave has no address
	CodeGatewayLoginFailed    Code = "gateway_login_failed" // to the gateway's own account

	CodeClientNotAllowed      Code = "client_not_allowed"
	CodeServerNotAllowed      Code = "server_not_allowed"
	CodeBanned                Code = "banned"
	CodeBadProxyHeader        Code = "bad_proxy_header"        // from a balancer
	CodeUnexpectedProxyHeader Code = "unexpected_proxy_header" // in place of a client's first command
	CodeTooManySessions       Code = "too_many_sessions"
	CodeShutDown              Code = "shut_down"
	CodeLoginTime             Code = "login_time"
	CodeIdle                  Code = "idle"
	CodeClientTakesNothing    Code = "client_takes_nothing"
	CodeClientBadLine         Code = "client_bad_line"
	CodeTooManyRefusals       Code = "too_many_refusals"
	CodeClientSpeaksHTTP      Code = "client_speaks_http"
	CodeClientSpeaksSSH       Code = "client_speaks_ssh"
	CodeClientBeginsTLS       Code = "client_begins_tls" // where plain text is expected
	CodeClientLeft            Code = "client_left"
	CodeKilled                Code = "killed"

	CodeThirdPartyPort       Code = "third_party_port"
	CodeLowPort              Code = "low_port"
	CodeFamily               Code = "family"
	CodeNotLoggedIn          Code = "not_logged_in"
	CodeCommandRefused       Code = "command_refused"
	CodeNoPortsLeft          Code = "no_ports_left"
	CodeNoDataPath           Code = "no_data_path"
	CodeTLSRefused           Code = "tls_refused"
	CodeTLSRequired          Code = "tls_required"
	CodeClientTLS            Code = "client_tls"
	CodeClientCertificate    Code = "client_certificate"
	CodeClientNoDataTLS      Code = "client_no_data_tls"
	CodeSessionReuseMissing  Code = "session_reuse_missing"
	CodeTLSCommandRefused    Code = "tls_command_refused"
	CodeServerDataTLS        Code = "server_data_tls"
	CodeTruncated            Code = "truncated"
	CodeClientNeverConnected Code = "client_never_connected"
	CodeClientFromElsewhere  Code = "client_from_elsewhere"
	// the connection reached the gateway but not the far end
	CodeGatewayFilter         Code = "gateway_filter"
	CodeRulesRemoved          Code = "rules_removed" // by another program, and restored since
	CodeClientTooLate         Code = "client_too_late"
	CodeForgedConnections     Code = "forged_connections" // they exhausted the pinhole's first packets
	CodeServerNeverConnected  Code = "server_never_connected"
	CodeServerFromElsewhere   Code = "server_from_elsewhere"
	CodeServerDataUnreachable Code = "server_data_unreachable"
	CodeClientDataUnreachable Code = "client_data_unreachable"
	CodeDataBroken            Code = "data_broken"
	CodeDataStalled           Code = "data_stalled" // nothing moves
	CodeAborted               Code = "aborted"
)

// Fault is something that went wrong or was refused, with the details that its sentence needs. An unknown
// field is zero.
type Fault struct {
	Code     Code
	Verb     string            // the command that the fault is about
	Reason   string            // the server's reply to it, or the reason for the refusal
	Peer     netip.Addr        // the peer that the fault is about
	At       netip.AddrPort    // where the peer should have connected to
	Expected netip.Addr        // the only peer that may connect there
	Ports    forward.PortRange // the range that At was drawn from
	Named    netip.Addr        // the other host that the server's reply to PASV named; not valid: none
	Waited   time.Duration     // how long the gateway or the client waited
	Err      string            // the cause
	Remedy   string            // replaces the verdict's own remedy; empty: it does not
	Fatal    bool              // it ended the session
}

// sentence makes the text and the remedy of a verdict. A nil remedy means that there is nothing to do.
type sentence struct {
	text   func(Fault) string
	remedy func(Fault) string
}

// Verdict is the outcome of a session, at its end or so far.
type Verdict struct {
	Code   Code   `json:"code"`
	Text   string `json:"text"`             // one sentence
	Remedy string `json:"remedy,omitempty"` // one sentence; empty: there is nothing to do
}

// Verdict returns the fault as one sentence, and the remedy as another.
func (f Fault) Verdict() Verdict {
	s, known := controlSentences[f.Code]
	if !known {
		s, known = dataSentences[f.Code]
	}
	if !known {
		return Verdict{f.Code, cmp.Or(f.Reason, f.Err, string(f.Code)), f.Remedy}
	}
	v := Verdict{Code: f.Code, Text: s.text(f), Remedy: f.Remedy}
	if v.Remedy == "" && s.remedy != nil {
		v.Remedy = s.remedy(f)
	}
	return v
}

// Minor reports whether clients usually continue after such a fault, because they can do without what they
// tried.
func (f Fault) Minor() bool {
	switch f.Code {
	case CodeTLSRefused, CodeTLSCommandRefused, CodeCommandRefused, CodeFamily, CodeServerUnaskedReply,
		CodeNotLoggedIn,
		CodeLoginFailed, CodeTLSRequired:
		return true
	}
	return false
}

// ExplainsNothing reports whether such an end of a session explains nothing if something failed before: a
// client that gave up is idle in the end.
func (f Fault) ExplainsNothing() bool {
	return f.Code == CodeIdle || f.Code == CodeShutDown || f.Code == CodeKilled || f.Code == CodeBanned
}
