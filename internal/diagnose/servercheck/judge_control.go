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
	// slowDial is when a connection counts as slow: the first SYN is sent again after a second.
	slowDial = time.Second
	// slowGreeting is when clients notice; a resolver that gets no answer takes longer.
	slowGreeting = 3 * time.Second
)

// connect judges the connection, and reports whether there was one.
func (j *judge) connect(e setup) bool {
	switch {
	case e.dialErr != nil:
		text, why := dialFailure(j.at, e.dialErr, e.dialTook)
		j.add(CodeConnect, finding.Fault, text, map[dialCause]string{
			dialRefused: "start the FTP server there, or correct the address and the port in `server`",
			dialSilent: fmt.Sprintf("check whether the host is up, and whether a firewall in between "+
				"lets port %d through", j.at.Port()),
			dialNoRoute: fmt.Sprintf("check the routes (ip route get %s) and this host's addresses "+
				"of that family", j.at.Addr()),
			dialForbidden: "check this host's own rules for outgoing connections (nft list ruleset)",
			dialOther:     "check the network between this host and the server",
		}[why])
		return false
	case e.dialTook == 0: // the time limit expired before
		return false
	case e.dialTook >= slowDial:
		j.add(CodeConnect, finding.Warning, fmt.Sprintf("%s accepted the connection only after %s", j.at,
			rounded(e.dialTook)),
			"look for lost packets on the way, and for a server with a full backlog: every session begins "+
				"with this wait")
	default:
		j.note(CodeConnect, finding.OK, "%s accepted the connection after %s", j.at, rounded(e.dialTook))
	}
	return true
}

// dialCause returns why a connection failed.
type dialCause uint8

const (
	dialOther dialCause = iota
	dialRefused
	dialSilent
	dialNoRoute
	dialForbidden
)

// dialFailure says why a connection failed.
func dialFailure(to netip.AddrPort, err error, took time.Duration) (string, dialCause) {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s refused the connection after %s: nothing listens there, or a firewall says no",
			to, rounded(took)), dialRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("there is no route to %s", to.Addr()), dialNoRoute
	case errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Sprintf("%s cannot be reached (after %s): the host is down, or a router or firewall "+
			"says no", to, rounded(took)), dialSilent
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Sprintf("this host does not allow connections to %s", to), dialForbidden
	case isTimeout(err), errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Sprintf("no answer from %s within %s: the host is down, or a firewall drops the packets",
			to, rounded(took)), dialSilent
	}
	return fmt.Sprintf("no connection to %s: %s", to, quote(err.Error())), dialOther
}

// protocols are how servers of other protocols begin.
var protocols = []struct{ begins, name string }{
	{"SSH-", "SSH (SFTP is no FTP)"}, {"HTTP/", "HTTP"}, {"+OK", "POP3"}, {"* OK", "IMAP"}, {"RFB ", "VNC"},
	{"@RSYNCD", "rsync"},
}

// greeting judges the first reply, and reports whether it welcomes.
func (j *judge) greeting(try *attempt) bool {
	if try.greeting == nil {
		return false
	}
	a := *try.greeting
	say := func(text, remedy string) bool { j.add(CodeGreeting, finding.Fault, text, remedy); return false }
	switch {
	case a.err != nil && a.heard == "" && isTimeout(a.err):
		return say("the server accepted the connection and did not greet within "+rounded(try.greetingTook),
			"check the server's log: it may be looking up this host's name in vain, or be full; a "+
				"firewall in between may delay it")
	case a.err != nil && a.heard == "" && isClosed(a.err):
		return say("the server accepted the connection and closed it without a greeting",
			"have the server accept this host: check its access lists, bans (fail2ban, hosts.deny) and "+
				"limits of connections")
	case a.err != nil:
		return say(j.notFTP(a))
	case a.Code == 421:
		return say("the server accepts no more sessions: "+j.quoteReply(a),
			"wait, or raise the server's limits of connections in all and per address: behind a gateway "+
				"all clients may have one address")
	case a.Code != 220:
		return say("the server does not accept this host: "+j.quoteReply(a), remedyLog)
	}
	if text := strings.ToUpper(a.Text()); strings.Contains(text, "SMTP") && !strings.Contains(text, "FTP") {
		return say(fmt.Sprintf("what listens at %s is a mail server: %s", j.at, j.quoteReply(a)),
			"correct the port in `server`")
	}
	if try.greetingTook >= slowGreeting {
		j.add(CodeGreeting, finding.Warning, fmt.Sprintf("the server greets only after %s: %s",
			rounded(try.greetingTook), j.quoteReply(a)),
			"stop the server from looking up the names of its clients (UseReverseDNS, "+
				"reverse_lookup_enable, --dontresolve), or give this host's address a name")
		return true
	}
	j.note(CodeGreeting, finding.OK, "the server greets: %s", j.quoteReply(a))
	return true
}

// notFTP describes what the server sent instead of a greeting.
func (j *judge) notFTP(a answer) (text, remedy string) {
	const remedyPort = "correct the port in `server`: FTP uses 21, implicit FTPS 990"
	for _, p := range protocols {
		if strings.HasPrefix(a.heard, p.begins) {
			return fmt.Sprintf("what listens at %s speaks %s, not FTP: %s", j.at, p.name, j.quote(a.heard)),
				remedyPort
		}
	}
	if text := unboundedReply(a.err); text != "" {
		return fmt.Sprintf("what listens at %s greets with %s, and begins %s", j.at, text, j.quote(a.heard)),
			"check what listens there, and its banner"
	}
	if isTimeout(a.err) {
		return fmt.Sprintf("the greeting did not end in time, and begins %s", j.quote(a.heard)), remedyPort
	}
	return fmt.Sprintf("what listens at %s speaks no FTP: %s", j.at, j.quote(a.heard)), remedyPort
}

// unboundedReply names the endless part of a reply, or returns "".
func unboundedReply(err error) string {
	if line, ok := errors.AsType[*ftp.TooLongError](err); ok {
		return fmt.Sprintf("a line of more than %d bytes", line.Limit)
	}
	if reply, ok := errors.AsType[*ftp.ReplyTooLongError](err); ok {
		return fmt.Sprintf("a reply of more than %d lines or %d bytes", reply.Lines, reply.Bytes)
	}
	if errors.Is(err, errPreliminary) {
		return fmt.Sprintf("more than %d preliminary replies", maxPreliminary)
	}
	return ""
}

// isClosed reports whether the peer has closed a connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed)
}

// commandFailure describes a failure that any command can have: no reply, or a 421. text is "" if there was
// none.
func (j *judge) commandFailure(verb string, a answer) (text, remedy string) {
	switch {
	case a.err == nil && a.Code == 421:
		return fmt.Sprintf("the server ends the session after %s: %s", verb, j.quoteReply(a)),
			"check the server's log: it may be full, or its limits of connections and of idle time too low"
	case a.err == nil:
		return "", ""
	case isAlert(a.err): // with TLS 1.3 a server may refuse a certificate after the handshake
		return handshakeFault(a.err, true, j.limits.Reply)
	case unboundedReply(a.err) != "":
		return fmt.Sprintf("the server answers %s with %s", verb, unboundedReply(a.err)),
			"check what listens at " + j.at.String()
	case isTimeout(a.err):
		return fmt.Sprintf("the server does not answer %s in time", verb),
			"check the server's log, and whether a firewall in between inspects FTP and drops what it " +
				"does not know"
	case isClosed(a.err):
		return fmt.Sprintf("the server closes the control connection instead of answering %s", verb),
			remedyLog
	}
	return fmt.Sprintf("the answer to %s is no FTP reply: %s", verb, j.quote(a.heard)),
		"check what listens at " + j.at.String()
}

// failed judges a failure that any command can have, and reports whether there was one.
func (j *judge) failed(code, verb string, a answer) bool {
	text, remedy := j.commandFailure(verb, a)
	if text != "" {
		j.add(code, finding.Fault, text, remedy)
	}
	return text != ""
}

// features judges FEAT (RFC 2389).
func (j *judge) features(try *attempt) {
	if try.feat == nil || j.failed(CodeFeatures, "FEAT", *try.feat) {
		return
	}
	names := try.feat.features()
	if names == nil {
		j.note(CodeFeatures, finding.OK, "the server has no list of features, which is allowed: %s",
			j.quoteReply(*try.feat))
		return
	}
	for i, name := range names {
		if verb, _, _ := strings.Cut(name, " "); verb != "AUTH" {
			names[i] = verb
		}
	}
	text := "the server lists " + j.quote(strings.Join(names, ", "))
	if try.security == forward.ServerTLSRequired && !try.feat.offersTLS() {
		j.add(CodeFeatures, finding.Info, text+", and not AUTH TLS",
			"check that TLS is switched on in the server")
		return
	}
	j.note(CodeFeatures, finding.OK, "%s", text)
}

// login judges the last reply to USER and PASS, and reports whether the user is logged in.
func (j *judge) login(try *attempt) bool {
	switch {
	case try.loginSkipped == errUntrusted:
		j.add(CodeLogin, finding.Info,
			"no login was tried: the password is not sent to a server whose certificate is not trusted",
			"fix the certificate, and try again")
		return false
	case try.loginSkipped != nil:
		j.add(CodeLogin, finding.Info,
			"no login was tried: the user's name or the password contains a line ending, which cannot be "+
				"sent", "remove the line ending")
		return false
	case try.login == nil:
		return false
	}
	a, user := *try.login, "anonymous"
	if j.user != "" {
		user = j.quote(j.user)
	}
	if a.positive() {
		j.note(CodeLogin, finding.OK, "login as %s works: %s", user, j.quoteReply(a))
		return true
	}
	if !j.failed(CodeLogin, try.loginVerb, a) {
		j.loginRefused(try.loginVerb, a, user)
	}
	return false
}

// loginRefused judges a login that the server refuses.
func (j *judge) loginRefused(verb string, a answer, user string) {
	anonymous := j.user == "" || strings.EqualFold(j.user, "anonymous") || strings.EqualFold(j.user, "ftp")
	switch {
	case a.Code == 332:
		j.add(CodeLogin, finding.Warning,
			"the server wants an account (ACCT) besides the password, and this check has none",
			"try with a user who needs none")
	case a.Code == 331:
		j.add(CodeLogin, finding.Fault, "the server asks for the password again and again: "+j.quoteReply(a),
			remedyLog)
	case a.Code/100 == 4:
		j.add(CodeLogin, finding.Fault, fmt.Sprintf("the server cannot log %s in now: %s", user,
			j.quoteReply(a)), "try again later; if it stays so, "+remedyLog)
	case anonymous:
		j.add(CodeLogin, finding.Info,
			"the server accepts no anonymous login, so that nothing after the login was tried: "+
				j.quoteReply(a), "try with a user of the server (--user)")
	case verb == "USER":
		j.add(CodeLogin, finding.Fault, fmt.Sprintf("the server does not accept the user %s: %s", user,
			j.quoteReply(a)), "check that the server knows and allows the user")
	default:
		j.add(CodeLogin, finding.Fault, fmt.Sprintf("the server refuses the user %s with this password: %s",
			user, j.quoteReply(a)),
			"correct the name or the password; or the server has locked the user, or does not know its "+
				"shell (/etc/shells): its log says")
	}
}
