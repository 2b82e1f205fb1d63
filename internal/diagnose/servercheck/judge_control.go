package servercheck

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
)

const (
	// slowDial is from where a connection is slow: the first SYN is sent again after a second.
	slowDial = time.Second
	// slowGreeting is what a client bears without a thought; a resolver that nobody answers takes longer.
	slowGreeting = 3 * time.Second
)

// connect judges the connection, and tells whether there was one.
func (j *judge) connect(e entry) bool {
	switch {
	case e.dial != nil:
		text, why := unreached(j.at, e.dial, e.took)
		j.say(CodeConnect, finding.Fault, text, map[reach]string{
			reachRefused:   "start the FTP server there, or correct the address and the port in `server`",
			reachSilent:    fmt.Sprintf("look whether the host is up, and whether a firewall in between lets port %d through", j.at.Port()),
			reachNoRoute:   fmt.Sprintf("look at the routes (ip route get %s) and at this host's addresses of that family", j.at.Addr()),
			reachForbidden: "look at this host's own rules for outgoing connections (nft list ruleset)",
			reachElse:      "look at the network between this host and the server",
		}[why])
		return false
	case e.took == 0: // the time was over before
		return false
	case e.took >= slowDial:
		j.say(CodeConnect, finding.Warning, fmt.Sprintf("%s took the connection only after %s", j.at, rounded(e.took)),
			"look for lost packets on the way, and for a server with a full backlog: each session of a client begins with this wait")
	default:
		j.say(CodeConnect, finding.OK, fmt.Sprintf("%s took the connection after %s", j.at, rounded(e.took)), "")
	}
	return true
}

// reach is why a connection does not come about.
type reach uint8

const (
	reachElse reach = iota
	reachRefused
	reachSilent
	reachNoRoute
	reachForbidden
)

// unreached says why nothing could be connected to.
func unreached(to netip.AddrPort, err error, took time.Duration) (string, reach) {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s refused the connection after %s: nothing listens there, or a firewall says no", to, rounded(took)), reachRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("there is no route to %s", to.Addr()), reachNoRoute
	case errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Sprintf("%s cannot be reached (after %s): the host is down, or a router or firewall says no", to, rounded(took)), reachSilent
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Sprintf("this host does not allow connections to %s", to), reachForbidden
	case isTimeout(err), errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Sprintf("no answer from %s within %s: the host is down, or a firewall drops the packets", to, rounded(took)), reachSilent
	}
	return fmt.Sprintf("no connection to %s: %s", to, quote(err.Error())), reachElse
}

// protocols is how servers of other protocols begin.
var protocols = []struct{ begins, name string }{
	{"SSH-", "SSH (SFTP is no FTP)"}, {"HTTP/", "HTTP"}, {"+OK", "POP3"}, {"* OK", "IMAP"}, {"RFB ", "VNC"}, {"@RSYNCD", "rsync"},
}

// greeting judges the first reply, and tells whether it lets in.
func (j *judge) greeting(v *visit) bool {
	if v.greeting == nil {
		return false
	}
	a := *v.greeting
	say := func(text, remedy string) bool { j.say(CodeGreeting, finding.Fault, text, remedy); return false }
	switch {
	case a.err != nil && a.heard == "" && isTimeout(a.err):
		return say("the server took the connection and did not greet within "+rounded(v.waited),
			"look at the server's log: it may be looking up this host's name in vain, or be full; a firewall in between may hold it up")
	case a.err != nil && a.heard == "" && isEnd(a.err):
		return say("the server took the connection and closed it without a greeting",
			"have the server let this host in: look at its access lists, bans (fail2ban, hosts.deny) and limits of connections")
	case a.err != nil:
		return say(j.notFTP(a))
	case a.Code == 421:
		return say("the server takes no more sessions: "+j.said(a),
			"wait, or raise the server's limits of connections in all and per address: behind a gateway all clients may have one address")
	case a.Code != 220:
		return say("the server does not let this host in: "+j.said(a), atLog)
	}
	if text := strings.ToUpper(a.Text()); strings.Contains(text, "SMTP") && !strings.Contains(text, "FTP") {
		return say(fmt.Sprintf("what listens at %s is a mail server: %s", j.at, j.said(a)), "correct the port in `server`")
	}
	if v.waited >= slowGreeting {
		j.say(CodeGreeting, finding.Warning, fmt.Sprintf("the server greets only after %s: %s", rounded(v.waited), j.said(a)),
			"have the server not look up the names of its clients (UseReverseDNS, reverse_lookup_enable, --dontresolve), or give this host's address a name")
		return true
	}
	j.say(CodeGreeting, finding.OK, "the server greets: "+j.said(a), "")
	return true
}

// notFTP says what came in place of a greeting.
func (j *judge) notFTP(a answer) (text, remedy string) {
	const remedyOfPort = "correct the port in `server`: FTP has 21, implicit FTPS 990"
	for _, p := range protocols {
		if strings.HasPrefix(a.heard, p.begins) {
			return fmt.Sprintf("what listens at %s speaks %s, not FTP: %s", j.at, p.name, j.quote(a.heard)), remedyOfPort
		}
	}
	if text := endless(a.err); text != "" {
		return fmt.Sprintf("what listens at %s greets with %s, and begins %s", j.at, text, j.quote(a.heard)), "look what it is that listens there, and at its banner"
	}
	if isTimeout(a.err) {
		return fmt.Sprintf("the greeting did not come to its end in time, and begins %s", j.quote(a.heard)), remedyOfPort
	}
	return fmt.Sprintf("what listens at %s speaks no FTP: %s", j.at, j.quote(a.heard)), remedyOfPort
}

// endless names what has no end in a reply, or returns "".
func endless(err error) string {
	if line, ok := errors.AsType[*ftp.TooLongError](err); ok {
		return fmt.Sprintf("a line of more than %d bytes", line.Limit)
	}
	if reply, ok := errors.AsType[*ftp.ReplyTooLongError](err); ok {
		return fmt.Sprintf("a reply of more than %d lines or %d bytes", reply.Lines, reply.Bytes)
	}
	if errors.Is(err, errEndless) {
		return fmt.Sprintf("more than %d preliminary replies", maxPreliminary)
	}
	return ""
}

// isEnd tells whether the peer has ended a connection.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed)
}

// unwilling says what any command can meet, no reply or the server's farewell; text is "" where it met neither.
func (j *judge) unwilling(verb string, a answer) (text, remedy string) {
	switch {
	case a.err == nil && a.Code == 421:
		return fmt.Sprintf("the server ends the session after %s: %s", verb, j.said(a)),
			"look at the server's log: it may be full, or its limits of connections and of idle time too low"
	case a.err == nil:
		return "", ""
	case isAlert(a.err): // with TLS 1.3 a server may refuse a certificate after the handshake
		return handshakeFault(a.err, true, j.limits.Reply)
	case endless(a.err) != "":
		return fmt.Sprintf("the server answers %s with %s", verb, endless(a.err)), "look what it is that listens at " + j.at.String()
	case isTimeout(a.err):
		return fmt.Sprintf("the server does not answer %s in time", verb),
			"look at the server's log, and for a firewall in between that inspects FTP and swallows what it does not know"
	case isEnd(a.err):
		return fmt.Sprintf("the server closes the control connection in place of answering %s", verb), atLog
	}
	return fmt.Sprintf("the answer to %s is no FTP reply: %s", verb, j.quote(a.heard)), "look what it is that listens at " + j.at.String()
}

// features judges FEAT (RFC 2389).
func (j *judge) features(v *visit) {
	if v.feat == nil {
		return
	}
	if text, remedy := j.unwilling("FEAT", *v.feat); text != "" {
		j.say(CodeFeatures, finding.Fault, text, remedy)
		return
	}
	names := v.feat.features()
	if names == nil {
		j.say(CodeFeatures, finding.OK, "the server has no list of features, which is allowed: "+j.said(*v.feat), "")
		return
	}
	for i, name := range names {
		if verb, _, _ := strings.Cut(name, " "); verb != "AUTH" {
			names[i] = verb
		}
	}
	text := "the server lists " + j.quote(strings.Join(names, ", "))
	if v.security == forward.ServerTLSRequired && !v.feat.offersTLS() {
		j.say(CodeFeatures, finding.Info, text+", and not AUTH TLS", "look whether TLS is switched on in the server")
		return
	}
	j.say(CodeFeatures, finding.OK, text, "")
}

// login judges the last reply to USER and PASS, and tells whether it lets in.
func (j *judge) login(v *visit) bool {
	switch {
	case v.unsent == errUntrusted:
		j.say(CodeLogin, finding.Info, "no login was tried: a password goes to no server whose certificate is not trusted", "mend what is said of the certificate, and try again")
		return false
	case v.unsent != nil:
		j.say(CodeLogin, finding.Info, "no login was tried: the user's name or the password has the end of a line in it, and cannot be sent", "give them without")
		return false
	case v.login == nil:
		return false
	}
	a, user := *v.login, "anonymous"
	if j.user != "" {
		user = j.quote(j.user)
	}
	if a.positive() {
		j.say(CodeLogin, finding.OK, fmt.Sprintf("the server lets %s in: %s", user, j.said(a)), "")
		return true
	}
	if text, remedy := j.unwilling(v.verb, a); text != "" {
		j.say(CodeLogin, finding.Fault, text, remedy)
		return false
	}
	j.refused(v.verb, a, user)
	return false
}

// refused judges a login that the server does not take.
func (j *judge) refused(verb string, a answer, user string) {
	guest := j.user == "" || strings.EqualFold(j.user, "anonymous") || strings.EqualFold(j.user, "ftp")
	switch {
	case a.Code == 332:
		j.say(CodeLogin, finding.Warning, "the server wants an account (ACCT) besides the password, which the trial has not", "try with a user who needs none")
	case a.Code == 331:
		j.say(CodeLogin, finding.Fault, "the server asks for the password again and again: "+j.said(a), atLog)
	case a.Code/100 == 4:
		j.say(CodeLogin, finding.Fault, fmt.Sprintf("the server cannot log %s in at the moment: %s", user, j.said(a)), "try again later; if it stays so, "+atLog)
	case guest:
		j.say(CodeLogin, finding.Info, "the server takes no anonymous users, so that nothing behind the login was tried: "+j.said(a), "try with a user of the server (--user)")
	case verb == "USER":
		j.say(CodeLogin, finding.Fault, fmt.Sprintf("the server does not take the user %s: %s", user, j.said(a)), "look whether the server knows and allows the user")
	default:
		j.say(CodeLogin, finding.Fault, fmt.Sprintf("the server refuses the user %s with this password: %s", user, j.said(a)),
			"correct the name or the password; else the server may have locked the user, or not know its shell (/etc/shells): its log says")
	}
}
