package servercheck

import (
	"crypto/x509"
	"net/netip"
	"strings"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
)

// sight is all that was seen at one address of the server.
type sight struct {
	at    netip.AddrPort
	clear *visit // in clear; nil where the forward has TLS with the server
	// tls is with TLS. Where the forward has none with the server, it goes on to the data if the server has
	// nothing in clear, and else no further than the handshake; nil: it was not come to.
	tls  *visit
	over bool // the time was over before the end
}

// visit is what was seen in one way to speak with the server. What is nil was not come to.
type visit struct {
	security forward.ServerTLS
	entry
	other                   *handshake // with the version of TLS that the first handshake did not have
	pasv, epsv, port, eprt  *transfer
	fresh                   *transfer // passive, without resumption
	ports                   []uint16  // passive ones
	local                   netip.Addr
	activeFamily, notActive bool // active was not tried: of another family than Active; of no use to the forward
}

// entry is what was seen on the way to the end of a login. What is nil was not come to.
type entry struct {
	dial     error
	took     time.Duration // of dial
	greeting *answer
	waited   time.Duration // for the greeting
	hidden   bool          // silent to who begins in clear, and answers a ClientHello
	feat     *answer
	auth     *answer
	shake    *handshake
	login    *answer // the last reply to verb
	verb     string  // USER or PASS
	unsent   error   // why no login was tried
	pbsz     *answer
	prot     *answer
}

// handshake is a TLS handshake of a control connection.
type handshake struct {
	err             error
	version, cipher uint16
	chain           []*x509.Certificate
	distrust        error // what is wrong with chain
}

// answer is what came for a command: a reply, or the reason why there is none.
type answer struct {
	ftp.Reply
	err   error
	heard string // how it began, where err is not nil
}

// positive tells whether the command was carried out (2yz).
func (a answer) positive() bool { return a.err == nil && a.Code/100 == 2 }

// unknown tells whether the server does not know the command (RFC 959 section 4.2).
func (a answer) unknown() bool { return a.err == nil && (a.Code == 500 || a.Code == 502) }

// wantsTLS tells whether a refusal asks for encryption: servers have many codes for it, and words alike.
func (a answer) wantsTLS() bool {
	if a.err != nil || a.Code/100 < 4 || a.Code/100 > 5 {
		return false
	}
	text := strings.ToUpper(a.Text())
	for _, word := range []string{"TLS", "SSL", "ENCRYPT", "CLEARTEXT", "CLEAR TEXT", "AUTH FIRST", "SECURE CONNECTION"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return a.Code == 534 || a.Code == 522
}

// offersTLS tells whether the list of features has AUTH TLS (RFC 4217 section 6).
func (a answer) offersTLS() bool {
	for _, name := range a.features() {
		verb, methods, _ := strings.Cut(name, " ")
		if verb == "AUTH" && strings.Contains(methods, "TLS") {
			return true
		}
	}
	return false
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

// transfer is all that was seen of one listing.
type transfer struct {
	verb   string // PASV, EPSV, PORT or EPRT
	shut   bool   // not tried: the server did not let in again after the step before
	asked  answer // to verb
	unread error  // the 227 or 229 makes no sense
	named  netip.AddrPort
	dial   error         // passive: no connection
	took   time.Duration // of dial, where it failed

	listen   error          // active: no listener
	at       netip.AddrPort // active: where it listened; passive: where it connected
	from     netip.AddrPort // active: who came
	stranger netip.AddrPort // active: who came from another address, and was sent away

	open     bool // a data connection stands
	handed   bool // TLS: the handshake is done
	shake    error
	resumed  bool
	other    bool // the certificate is not that of the control connection
	read     error
	bytes    int64
	cut      bool // more than maxListing
	notified bool // TLS: the server said close_notify

	listed answer // the last reply to LIST
}

// passive tells whether the server listens.
func (t *transfer) passive() bool { return t.verb == "PASV" || t.verb == "EPSV" }

// agreed tells whether a listing could be asked for.
func (t *transfer) agreed() bool { return !t.shut && t.asked.positive() && t.unread == nil }

// worked tells whether the listing came as a whole, or as much of it as was wanted.
func (t *transfer) worked() bool {
	return t != nil && (t.listed.positive() || t.cut) && t.open && t.shake == nil && t.read == nil && !t.other
}

// demand returns the reply with which a server in clear asked for encryption.
func (v *visit) demand() (answer, bool) {
	replies := []*answer{v.greeting, v.login}
	for _, t := range []*transfer{v.pasv, v.epsv, v.port, v.eprt} {
		if t != nil && !t.handed {
			replies = append(replies, &t.asked, &t.listed)
		}
	}
	for _, a := range replies {
		if v.security == forward.ServerTLSOff && a != nil && a.wantsTLS() {
			return *a, true
		}
	}
	return answer{}, false
}
