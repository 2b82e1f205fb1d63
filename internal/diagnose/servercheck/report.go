package servercheck

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/ftpclient"
)

// report is the result for one address of the server. Nil fields, here and below, were not reached.
type report struct {
	at    netip.AddrPort
	clear *attempt // without TLS; nil also if the forward has TLS with the server
	// tls is with TLS. If the forward has none with the server, it includes all data only if the server
	// accepts nothing in clear; if encrypted sessions pass through, the data of tryReuse; else it ends with
	// the handshake.
	tls        *attempt
	unfinished bool // the time was over before the end
}

// attempt is the result of one way to speak with the server.
type attempt struct {
	security forward.ServerTLS
	setup
	otherVersion           *handshake // with the TLS version that the first handshake did not choose
	pasv, epsv, port, eprt *transfer
	unresumed              *transfer // passive, without resuming the control connection's TLS session
	ports                  []uint16  // the passive ones that the server offered
	activeUnused           bool      // active mode was not tried: the forward does not use it
}

// setup is the result of the commands up to the login.
type setup struct {
	dialErr      error
	dialTook     time.Duration
	greeting     *answer
	greetingTook time.Duration
	implicit     bool // the server is silent to clients in clear, and answers a ClientHello
	feat         *answer
	auth         *answer
	handshake    *handshake
	login        *answer // the last reply to loginVerb
	loginVerb    string  // USER or PASS
	loginSkipped error   // why no login was tried
	pbsz         *answer
	prot         *answer
}

// handshake is a TLS handshake of a control connection.
type handshake struct {
	err             error
	version, cipher uint16
	chain           []*x509.Certificate
	certErr         error // the error of chain
}

// answer is the reply to a command, or the reason why there is none.
type answer struct {
	ftp.Reply
	err   error
	heard string // with err: the first bytes received instead
}

// positive reports whether the command succeeded (2yz).
func (a answer) positive() bool { return a.err == nil && a.Code/100 == 2 }

// unknown reports whether the server does not know the command (RFC 959 section 4.2).
func (a answer) unknown() bool { return a.err == nil && (a.Code == 500 || a.Code == 502) }

// wantsTLS reports whether a refusal asks for encryption. Servers have many codes for it, but similar words.
func (a answer) wantsTLS() bool {
	if a.err != nil || a.Code/100 < 4 || a.Code/100 > 5 {
		return false
	}
	text := strings.ToUpper(a.Text())
	words := []string{"TLS", "SSL", "ENCRYPT", "CLEARTEXT", "CLEAR TEXT", "AUTH FIRST", "SECURE CONNECTION"}
	return a.Code == 534 || a.Code == 522 ||
		slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
}

// offersTLS reports whether the list of features has AUTH TLS (RFC 4217 section 6).
func (a answer) offersTLS() bool {
	return slices.ContainsFunc(a.features(), func(name string) bool {
		verb, methods, _ := strings.Cut(name, " ")
		return verb == "AUTH" && strings.Contains(methods, "TLS")
	})
}

// features returns the list of a 211 (RFC 2389 section 3.2).
func (a answer) features() (names []string) {
	if a.err != nil || a.Code != 211 {
		return nil
	}
	for _, line := range a.Lines[min(1, len(a.Lines)):] {
		if strings.HasPrefix(line, " ") { // else it is the last line
			names = append(names, strings.ToUpper(strings.TrimSpace(line)))
		}
	}
	return names
}

// transfer is the result of one listing.
type transfer struct {
	mode     ftpclient.Mode
	skipped  bool   // the server accepted no new session after the previous step
	reply    answer // to the mode's command
	replyErr error  // why the 227 or 229 cannot be parsed
	place    netip.AddrPort
	dialErr  error         // passive: no connection
	dialTook time.Duration // with dialErr

	listenErr      error          // active: no listener
	at             netip.AddrPort // active: where it listened; passive: where it connected
	from           netip.AddrPort // active: where the server connected from
	unexpectedPeer netip.AddrPort // active: a peer from another address, which was closed

	connected   bool
	encrypted   bool // the TLS handshake is done
	tlsErr      error
	resumed     bool // the control connection's TLS session
	otherCert   bool // the certificate is not that of the control connection
	readErr     error
	bytes       int64
	tooLong     bool // more than maxListing
	closeNotify bool // the data in TLS ended with close_notify

	listReply answer // the last reply to LIST
}

// passive reports whether the server listens.
func (t *transfer) passive() bool { return !t.mode.Active() }

// negotiated reports whether LIST could be sent.
func (t *transfer) negotiated() bool { return !t.skipped && t.reply.positive() && t.replyErr == nil }

// worked reports whether the whole listing arrived, or maxListing bytes of it.
func (t *transfer) worked() bool {
	return t != nil && (t.listReply.positive() || t.tooLong) && t.connected && t.tlsErr == nil &&
		t.readErr == nil && !t.otherCert
}

func (t *transfer) refused() bool { return t.listReply.err == nil && !t.listReply.positive() }

// resumptionRefused reports whether the server rejected the data connection's TLS. Servers do so without
// mention of TLS: with 522 (vsftpd) or 425 (proftpd) on the control connection.
func (t *transfer) resumptionRefused() bool {
	text := strings.ToUpper(t.listReply.Text())
	switch {
	case t.refused() && t.listReply.Code == 522:
		return true
	case t.tlsErr == nil:
		return false
	case t.refused() && (strings.Contains(text, "REUSE") || strings.Contains(text, "RESUM") ||
		strings.Contains(text, "SESSION")):
		return true
	}
	return isClosed(t.tlsErr) && (!t.refused() || t.listReply.Code == 425 || t.listReply.Code == 426)
}

// tried returns the transfers of an attempt, in the order in which they were made.
func (try *attempt) tried() []*transfer {
	return slices.DeleteFunc([]*transfer{try.epsv, try.pasv, try.port, try.eprt},
		func(t *transfer) bool { return t == nil })
}

// firstPassive returns the first passive transfer that meets a condition, or nil.
func (try *attempt) firstPassive(meets func(*transfer) bool) *transfer {
	tried := []*transfer{try.epsv, try.pasv}
	if i := slices.IndexFunc(tried, func(t *transfer) bool { return t != nil && meets(t) }); i >= 0 {
		return tried[i]
	}
	return nil
}

// demandsTLS returns the reply with which a server in clear asked for encryption.
func (try *attempt) demandsTLS() (answer, bool) {
	replies := []*answer{try.greeting, try.login}
	for _, t := range []*transfer{try.pasv, try.epsv, try.port, try.eprt} {
		if t != nil && !t.encrypted {
			replies = append(replies, &t.reply, &t.listReply)
		}
	}
	for _, a := range replies {
		if try.security == forward.ServerTLSOff && a != nil && a.wantsTLS() {
			return *a, true
		}
	}
	return answer{}, false
}
