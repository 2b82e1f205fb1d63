package dialogue

import (
	"bytes"
	"strconv"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// protection is the encryption that client and gateway have negotiated (RFC 2228 section 3, RFC 4217).
type protection struct {
	usedTLS   bool // this control connection has begun TLS; CCC does not undo that
	encrypted bool // the control connection is TLS now
	sized     bool // the client sent PBSZ, without which PROT means nothing
	private   bool // PROT P: the client's data connections are TLS
}

// implicit is the protection of a session that begins with TLS. Its data connections use TLS, too; a client
// may still send PBSZ and PROT P.
var implicit = protection{usedTLS: true, encrypted: true, sized: true, private: true}

// terminates reports whether the gateway speaks TLS with the client.
func (d *Dialogue) terminates() bool { return d.config.TLS.Client != forward.ClientTLSOff }

// passesThrough reports whether the session may be encrypted end to end.
func (d *Dialogue) passesThrough() bool { return !d.config.Passive.IsEmpty() }

// legs returns the legs on which the gateway speaks TLS on the next data connection.
func (d *Dialogue) legs() pinhole.TLSLegs {
	return pinhole.TLSLegs{
		Client: d.protection.private,
		Server: d.config.TLS.Server != forward.ServerTLSOff && !d.config.TLS.ServerDataClear,
	}
}

// The remedies for the operator when a client could not encrypt its session.
const (
	remedyTLS = "name the server's passive ports (server_ports) to pass encrypted sessions through, " +
		"or have ftpgate speak TLS with clients (tls.client, tls.cert and tls.key)"
	remedyClientTLS = "to have the client's leg encrypted, too, " +
		"give the forward tls.client, with cert and key"
	remedyImplicit = "clients of this forward are to use explicit FTPS (AUTH TLS), " +
		"or set implicit = true below [forward.tls]"
)

// clientHello handles a TLS handshake in place of the client's first command.
func (d *Dialogue) clientHello(s *Step) {
	switch {
	case d.protection.encrypted:
		s.end(verdict.RefusedEncryption, "TLS is already active")
		s.Refusal.Code = verdict.CodeClientBeginsTLS
	case d.terminates():
		s.end(verdict.RefusedEncryption, "clients begin in plain text here, and encrypt with AUTH TLS")
		s.Refusal.Code, s.Refusal.Remedy = verdict.CodeClientBeginsTLS, remedyImplicit
	case !d.passesThrough():
		s.end(verdict.RefusedEncryption, "this gateway cannot carry an encrypted session to this server")
		s.Refusal.Code, s.Refusal.Remedy = verdict.CodeTLSRefused, remedyTLS
	case d.Greeted():
		s.end(verdict.RefusedEncryption, "the server begins in plain text, and encrypts with AUTH TLS")
		s.Refusal.Code = verdict.CodeClientBeginsTLS
		s.Refusal.Remedy = "clients of this forward are to use explicit FTPS (AUTH TLS)"
	default:
		d.openPassthrough(s)
		s.Transition = Passthrough
	}
}

// openPassthrough opens the server's passive ports for a session that the gateway cannot read.
func (d *Dialogue) openPassthrough(s *Step) {
	d.drop(s)
	s.Action = OpenPassthrough
	s.Passthrough = &pinhole.Passthrough{
		From:     d.addrs.Client,
		Listen:   d.addrs.Gateway,
		Ports:    d.config.Passive,
		Target:   d.addrs.Server,
		SourceIP: d.addrs.Outside,
	}
}

// auth handles AUTH (RFC 2228 section 3, RFC 4217 section 4).
func (d *Dialogue) auth(s *Step, line ftp.ClientLine) {
	mechanism := string(bytes.ToUpper(bytes.Trim(line.Command.Arg, " ")))
	switch {
	case d.passesThrough() && !isTLS(mechanism): // the gateway could not see the end of its handshake
		s.refuse(verdict.RefusedEncryption, 504, "AUTH takes TLS or SSL")
	case d.passesThrough():
		d.openPassthrough(s)
		d.forwardLine(s, line)
	case !d.terminates() && d.config.TLS.Server != forward.ServerTLSOff:
		s.refuse(verdict.RefusedEncryption, 534, "clients speak plain FTP with this gateway")
		s.Refusal.Code, s.Refusal.Remedy = verdict.CodeTLSRefused, remedyClientTLS
	case !d.terminates():
		s.refuse(verdict.RefusedEncryption, 534, "this gateway cannot carry an encrypted session to this "+
			"server")
		s.Refusal.Code, s.Refusal.Remedy = verdict.CodeTLSRefused, remedyTLS
	case d.protection.usedTLS:
		s.refuse(verdict.RefusedEncryption, 503, "TLS is already active")
	case d.loggedIn: // the server would keep the login, which was sent in clear
		s.refuse(verdict.RefusedEncryption, 503, "AUTH comes before login")
	case !isTLS(mechanism):
		s.refuse(verdict.RefusedEncryption, 504, "AUTH takes TLS or SSL")
	case mechanism == "SSL", mechanism == "TLS-P": // both imply PROT P
		d.encrypt(s, implicit)
	default:
		d.encrypt(s, protection{usedTLS: true, encrypted: true})
	}
}

// isTLS reports whether a mechanism of AUTH is TLS, under the name of RFC 4217 or of its drafts.
func isTLS(mechanism string) bool {
	switch mechanism {
	case "TLS", "TLS-C", "SSL", "TLS-P":
		return true
	}
	return false
}

// encrypt accepts AUTH.
func (d *Dialogue) encrypt(s *Step, p protection) {
	d.drop(s)
	d.protection = p
	s.Action, s.Transition = PrepareTLS, Encrypt
	s.say(234, "begin with TLS")
}

// protect handles the commands that follow AUTH; false: the server answers them, because the gateway speaks
// TLS with neither end. Such a server encrypts at most data, which passes unchanged.
func (d *Dialogue) protect(s *Step, c ftp.Command) bool {
	switch {
	case !d.terminates() && d.config.TLS.Server == forward.ServerTLSOff:
		return false
	case !d.terminates():
		s.refuse(verdict.RefusedEncryption, 503, "%s needs AUTH, which is not possible here", c.Verb)
	case !d.protection.encrypted:
		s.refuse(verdict.RefusedEncryption, 503, "%s needs an encrypted control connection", c.Verb)
	case c.Verb == "PBSZ":
		d.bufferSize(s, c.Arg)
	case c.Verb == "PROT":
		d.level(s, string(bytes.ToUpper(bytes.Trim(c.Arg, " "))))
	case !d.config.TLS.CCC:
		s.refuse(verdict.RefusedEncryption, 533, "the control connection stays encrypted")
		s.Refusal.Remedy = "ccc = true below [forward.tls] allows CCC, " +
			"which shows the rest of the session to anyone on the path"
	default:
		d.protection.encrypted = false
		s.Transition = Decrypt
		s.say(200, "the control connection continues in plain text")
	}
	return true
}

// bufferSize handles PBSZ. TLS has its own buffers, so the answer is always zero (RFC 4217 section 9).
func (d *Dialogue) bufferSize(s *Step, arg []byte) {
	if _, err := strconv.ParseUint(string(bytes.Trim(arg, " ")), 10, 32); err != nil {
		s.refuse(verdict.RefusedCommand, 501, "PBSZ takes a number")
		return
	}
	d.protection.sized = true
	s.say(200, "PBSZ=0")
}

// level handles PROT. The level applies to the next data connection; one that is already negotiated is
// closed.
func (d *Dialogue) level(s *Step, level string) {
	switch {
	case !d.protection.sized:
		s.refuse(verdict.RefusedEncryption, 503, "PBSZ comes before PROT")
		return
	case level == "S" || level == "E":
		s.refuse(verdict.RefusedEncryption, 536, "TLS knows PROT C and PROT P only")
		return
	case level != "C" && level != "P":
		s.refuse(verdict.RefusedCommand, 504, "PROT takes C or P")
		return
	case level == "C" && d.config.TLS.Client == forward.ClientTLSRequired:
		s.refuse(verdict.RefusedEncryption, 534, "data in clear is not allowed here")
		s.Refusal.Code = verdict.CodeTLSRequired
		return
	}
	if private := level == "P"; private != d.protection.private {
		d.protection.private = private
		d.drop(s)
	}
	s.say(200, "PROT %s", level)
}

// refuseClear refuses a command that must not be in clear; false: it may be.
func (d *Dialogue) refuseClear(s *Step, verb string) bool {
	if d.config.TLS.Client != forward.ClientTLSRequired {
		return false
	}
	switch verb {
	case "USER", "PASS", "ACCT":
		if !d.protection.encrypted {
			s.refuse(verdict.RefusedEncryption, 530, "log in over TLS only: send AUTH TLS first")
			s.Refusal.Code = verdict.CodeTLSRequired
			return true
		}
	case "PASV", "EPSV", "PORT", "EPRT":
		if d.loggedIn && !d.protection.private {
			s.refuse(verdict.RefusedEncryption, 521,
				"data connections are encrypted here: send PBSZ 0 and PROT P first")
			s.Refusal.Code = verdict.CodeTLSRequired
			return true
		}
	}
	return false
}

// reinit handles a positive answer to REIN: the session returns to its state before AUTH, and this answer is
// the last encrypted one (RFC 4217 section 11). With implicit TLS it stays encrypted.
func (d *Dialogue) reinit(s *Step) {
	d.loggedIn, d.epsvAll, d.raw64 = false, false, false
	d.drop(s)
	switch {
	case d.config.TLS.Implicit:
		d.protection = implicit
	case d.protection.encrypted:
		d.protection = protection{}
		s.Transition = Decrypt
	default:
		d.protection = protection{}
	}
}

// authReply handles the server's answer to an AUTH that was forwarded. After any answer but 4yz and 5yz the
// gateway cannot read the session any more (RFC 6384 section 6).
func (d *Dialogue) authReply(s *Step, code int) {
	if code/100 < 4 {
		s.Transition = Passthrough
		return
	}
	s.Action = Close
}

// offers adds the gateway's own extensions to FEAT's list (RFC 2389 section 3.2, RFC 4217 section 6).
func (d *Dialogue) offers(s *Step) {
	if !d.config.TLS.Implicit {
		s.ToClient = append(s.ToClient, " AUTH TLS\r\n"...)
	}
	if d.config.TLS.CCC {
		s.ToClient = append(s.ToClient, " CCC\r\n"...)
	}
	s.ToClient = append(s.ToClient, " PBSZ\r\n PROT\r\n"...)
}

// features handles a line of the answer to FEAT. It leaves out the extensions that do not work through the
// gateway, and adds the gateway's own, also for a server without any.
func (d *Dialogue) features(s *Step, line ftp.ServerLine) {
	switch {
	case line.Code == 211 && !d.terminates():
		d.serverFeatures(s, line)
	case !d.terminates(), line.Code/100 != 2 && line.Code/100 != 5:
		d.pass(s, line)
	case line.Last:
		if line.First || line.Code != 211 {
			s.ToClient = append(s.ToClient, "211-Features:\r\n"...)
		}
		d.offers(s)
		s.say(211, "End")
	case line.Code != 211: // a negative reply with several lines
	case line.First:
		s.ToClient = append(s.ToClient, "211-Features:\r\n"...)
	case !d.hidden(line.Text):
		d.pass(s, line)
	}
}

// serverFeatures forwards a line of the server's list, unless it names a hidden extension.
func (d *Dialogue) serverFeatures(s *Step, line ftp.ServerLine) {
	switch {
	case !d.hidden(line.Text):
		d.pass(s, line)
	case line.First && !line.Last:
		s.ToClient = append(s.ToClient, "211-Features:\r\n"...)
	case line.Last:
		s.say(211, "End")
	}
}
