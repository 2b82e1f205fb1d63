package dialogue

import (
	"bytes"
	"strconv"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// protection is what client and gateway have agreed upon (RFC 2228 section 3, RFC 4217).
type protection struct {
	began     bool // TLS was begun on this control connection; CCC does not take that back
	encrypted bool // the control connection is TLS now
	sized     bool // PBSZ was given, without which PROT means nothing
	private   bool // PROT P: the client's data connections are TLS
}

// implicit is the protection of a session that begins with TLS: that of data is implied, too, and clients
// that say so all the same lose nothing.
var implicit = protection{began: true, encrypted: true, sized: true, private: true}

// terminates tells whether the gateway speaks TLS with the client.
func (d *Dialogue) terminates() bool { return d.terms.TLS.Client != forward.ClientTLSOff }

// passesThrough tells whether the session may be encrypted from end to end.
func (d *Dialogue) passesThrough() bool { return !d.terms.Passive.IsEmpty() }

// legs tells on which legs of a data connection the gateway speaks TLS at the moment.
func (d *Dialogue) legs() pinhole.Encrypted {
	return pinhole.Encrypted{
		Client: d.protection.private,
		Server: d.terms.TLS.Server != forward.ServerTLSOff && !d.terms.TLS.ServerDataClear,
	}
}

// Undecided tells that the answer to what the client has sent last decides how it is to be read on.
func (d *Dialogue) Undecided() bool {
	if len(d.Pending) == 0 {
		return false
	}
	verb := d.Pending[len(d.Pending)-1].verb
	return verb == "AUTH" || verb == "REIN" && d.protection.encrypted
}

// The remedies for the operator who reads that a client could not have its session encrypted.
const (
	remedyTLS = "name the server's passive ports (server_ports) to pass encrypted sessions through, " +
		"or have ftpgate speak TLS with clients ([forward.tls] with client, cert and key)"
	remedyClientTLS = "to have the client's leg encrypted, too, give the forward tls.client, with cert and key"
	remedyImplicit  = "clients of this forward are to use explicit FTPS (AUTH TLS), or set implicit = true below [forward.tls]"
)

// Hello takes it that the client begins with a TLS handshake and not with a command (implicit FTPS).
func (d *Dialogue) Hello() *Step {
	d.LastStep = Step{ToClient: Emptied(d.LastStep.ToClient), ToServer: Emptied(d.LastStep.ToServer)}
	switch {
	case d.terminates():
		d.end(RefusedSecurity, "clients begin in plain text here, and encrypt with AUTH TLS")
		d.LastStep.Remedy = remedyImplicit
	case !d.passesThrough():
		d.end(RefusedSecurity, "this gateway cannot carry an encrypted session to this server")
		d.LastStep.Code, d.LastStep.Remedy = verdict.CodeTLSRefused, remedyTLS
	case d.Greeted():
		d.end(RefusedSecurity, "the server begins in plain text, and encrypts with AUTH TLS")
		d.LastStep.Remedy = "clients of this forward are to use explicit FTPS (AUTH TLS)"
	default:
		d.openPassage()
		d.LastStep.Then = Tunnel
	}
	return &d.LastStep
}

// openPassage asks for the passage of a session that nobody can read.
func (d *Dialogue) openPassage() {
	d.drop()
	d.LastStep.Action = Pass
	d.LastStep.Passage = pinhole.Passage{
		From:  d.Ends.Client,
		At:    d.Ends.Gateway,
		Ports: d.terms.Passive,
		To:    d.Ends.Server,
		As:    d.Ends.Outside,
	}
}

// auth takes AUTH (RFC 2228 section 3, RFC 4217 section 4).
func (d *Dialogue) auth(c ftp.Command, text []byte) {
	mechanism := string(bytes.ToUpper(bytes.Trim(c.Arg, " ")))
	switch {
	case d.passesThrough():
		d.openPassage()
		d.request(c, text)
	case !d.terminates() && d.terms.TLS.Server != forward.ServerTLSOff:
		d.refuse(RefusedSecurity, 534, "clients speak plain FTP with this gateway")
		d.LastStep.Code, d.LastStep.Remedy = verdict.CodeTLSRefused, remedyClientTLS
	case !d.terminates():
		d.refuse(RefusedSecurity, 534, "this gateway cannot carry an encrypted session to this server")
		d.LastStep.Code, d.LastStep.Remedy = verdict.CodeTLSRefused, remedyTLS
	case d.protection.began:
		d.refuse(RefusedSecurity, 503, "this session has its TLS already")
	case d.LoggedIn: // the server's login would outlive it
		d.refuse(RefusedSecurity, 503, "AUTH comes before login")
	case mechanism == "TLS", mechanism == "TLS-C":
		d.encrypt(protection{began: true, encrypted: true})
	case mechanism == "SSL", mechanism == "TLS-P": // which imply that data is private
		d.encrypt(implicit)
	default:
		d.refuse(RefusedSecurity, 504, "AUTH takes TLS or SSL")
	}
}

func (d *Dialogue) encrypt(p protection) {
	d.drop()
	d.protection = p
	d.LastStep.Action, d.LastStep.Then = Prepare, Encrypt
	d.say(234, "begin with TLS")
}

// protect takes the commands that follow AUTH.
func (d *Dialogue) protect(c ftp.Command) {
	switch {
	case !d.terminates():
		d.refuse(RefusedSecurity, 503, "%s needs AUTH, which is not possible here", c.Verb)
	case !d.protection.encrypted:
		d.refuse(RefusedSecurity, 503, "%s needs an encrypted control connection", c.Verb)
	case c.Verb == "PBSZ":
		d.bufferSize(c.Arg)
	case c.Verb == "PROT":
		d.level(string(bytes.ToUpper(bytes.Trim(c.Arg, " "))))
	case !d.terms.TLS.CCC:
		d.refuse(RefusedSecurity, 533, "the control connection stays encrypted")
		d.LastStep.Remedy = "ccc = true below [forward.tls] allows CCC, which shows the rest of the session to everybody on the way"
	default:
		d.protection.encrypted = false
		d.LastStep.Then = Decrypt
		d.say(200, "the control connection goes on in plain text")
	}
}

// bufferSize takes PBSZ: TLS has buffers of its own, and the answer is always zero (RFC 4217 section 9).
func (d *Dialogue) bufferSize(arg []byte) {
	if _, err := strconv.ParseUint(string(bytes.Trim(arg, " ")), 10, 32); err != nil {
		d.refuse(RefusedCommand, 501, "PBSZ takes a number")
		return
	}
	d.protection.sized = true
	d.say(200, "PBSZ=0")
}

// level takes PROT. It holds for data connections that are agreed upon from now on: one that was before
// is given up.
func (d *Dialogue) level(level string) {
	switch {
	case !d.protection.sized:
		d.refuse(RefusedSecurity, 503, "PBSZ comes before PROT")
		return
	case level == "S" || level == "E":
		d.refuse(RefusedSecurity, 536, "TLS knows PROT C and PROT P only")
		return
	case level != "C" && level != "P":
		d.refuse(RefusedCommand, 504, "PROT takes C or P")
		return
	case level == "C" && d.terms.TLS.Client == forward.ClientTLSRequired:
		d.refuse(RefusedSecurity, 534, "data in clear is not allowed here")
		d.LastStep.Code = verdict.CodeTLSRequired
		return
	}
	if private := level == "P"; private != d.protection.private {
		d.protection.private = private
		d.drop()
	}
	d.say(200, "PROT %s", level)
}

// inClear refuses what must not go on in clear; false: it may.
func (d *Dialogue) inClear(verb string) bool {
	if d.terms.TLS.Client != forward.ClientTLSRequired {
		return false
	}
	switch verb {
	case "USER", "PASS", "ACCT":
		if !d.protection.encrypted {
			d.refuse(RefusedSecurity, 530, "log in over TLS only: send AUTH TLS first")
			d.LastStep.Code = verdict.CodeTLSRequired
			return true
		}
	case "PASV", "EPSV", "PORT", "EPRT":
		if d.LoggedIn && !d.protection.private {
			d.refuse(RefusedSecurity, 521, "data connections are encrypted here: send PBSZ 0 and PROT P first")
			d.LastStep.Code = verdict.CodeTLSRequired
			return true
		}
	}
	return false
}

// reinit takes the server's yes to REIN: the session is as it was before AUTH, and the answer is the last
// that is encrypted (RFC 4217 section 11). Implicit TLS has no before.
func (d *Dialogue) reinit() {
	d.LoggedIn, d.epsvAll, d.as64 = false, false, false
	d.drop()
	switch {
	case d.terms.TLS.Implicit:
		d.protection = implicit
	case d.protection.encrypted:
		d.protection = protection{}
		d.LastStep.Then = Decrypt
	default:
		d.protection = protection{}
	}
}

// authAnswered takes the server's answer to an AUTH that was passed on. Whatever is not a no begins what
// cannot be read any more (RFC 6384 section 6: come back on 4yz and 5yz).
func (d *Dialogue) authAnswered(code int) {
	if code/100 < 4 {
		d.LastStep.Then = Tunnel
		return
	}
	d.LastStep.Action = Close
}

// offers is what FEAT lists of the gateway's own (RFC 2389 section 3.2, RFC 4217 section 6).
func (d *Dialogue) offers() {
	if !d.terms.TLS.Implicit {
		d.LastStep.ToClient = append(d.LastStep.ToClient, " AUTH TLS\r\n"...)
	}
	if d.terms.TLS.CCC {
		d.LastStep.ToClient = append(d.LastStep.ToClient, " CCC\r\n"...)
	}
	d.LastStep.ToClient = append(d.LastStep.ToClient, " PBSZ\r\n PROT\r\n"...)
}

// features takes a line of the answer to FEAT: what does not work here is left out, and what the gateway
// does by itself is put in, for a server without any extension as well.
func (d *Dialogue) features(line []byte, code int, first, done bool) {
	switch {
	case code == 211 && !d.terminates():
		if !d.hidden(line) {
			d.pass(line)
		} else if first && !done {
			d.LastStep.ToClient = append(d.LastStep.ToClient, "211-Features:\r\n"...)
		} else if done {
			d.say(211, "End")
		}
	case !d.terminates(), code/100 != 2 && code/100 != 5:
		d.pass(line)
	case done:
		if first || code != 211 {
			d.LastStep.ToClient = append(d.LastStep.ToClient, "211-Features:\r\n"...)
		}
		d.offers()
		d.say(211, "End")
	case code != 211: // a no in several lines
	case first:
		d.LastStep.ToClient = append(d.LastStep.ToClient, "211-Features:\r\n"...)
	case !d.hidden(line):
		d.pass(line)
	}
}
