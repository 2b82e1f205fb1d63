package dialogue

import (
	"slices"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// command handles a client's line.
func (d *Dialogue) command(s *Step, line ftp.ClientLine) {
	options := refuseOptions(s, line.Telnet)
	switch {
	case len(line.Telnet) > 0 && len(line.Text) == 0: // such as a NOP that keeps the connection alive
	case line.IsReply:
		s.end(verdict.RefusedLine, "a client sends commands, not replies")
	case line.Blank() && d.HasServer(): // some servers answer it
		d.forwardLine(s, line)
	case d.refuseForeign(s, line):
	case line.Command.Verb == "":
		s.refuse(verdict.RefusedLine, 500, "not an FTP command")
	case d.name(s, line):
	case !d.handle(s, line):
		if ftp.IsUrgent(line.Command.Verb) && !options { // servers read it differently
			s.ToServer = append(s.ToServer, line.Telnet...)
			s.Urgent = len(line.Telnet)
		}
		d.forward(s, line)
	}
}

// refuseOptions answers Telnet's WILL with DONT and DO with WONT (RFC 1123 section 4.1.2.12, RFC 854). It
// reports whether there is an option among the commands.
func refuseOptions(s *Step, telnet []byte) (options bool) {
	const will, wont, do, dont, iac = 251, 252, 253, 254, 255
	for i := 0; i+2 < len(telnet); i++ {
		if telnet[i] != iac || telnet[i+1] < will || telnet[i+1] == iac {
			continue
		}
		switch telnet[i+1] {
		case will:
			s.ToClient = append(s.ToClient, iac, dont, telnet[i+2])
		case do:
			s.ToClient = append(s.ToClient, iac, wont, telnet[i+2])
		}
		options = true
		i += 2
	}
	return options
}

// handle handles the commands that are not simply forwarded; false: this is not one of them.
func (d *Dialogue) handle(s *Step, line ftp.ClientLine) bool {
	c := line.Command
	if d.refuseClear(s, c.Verb) {
		return true
	}
	switch c.Verb {
	case "PASV", "EPSV":
		d.passive(s, c)
	case "PORT", "EPRT":
		d.active(s, c)
	case "LPSV", "LPRT": // historic: RFC 5797 section 3
		s.refuse(verdict.RefusedCommand, 502, "use EPSV or EPRT")
	case "AUTH":
		d.auth(s, line)
	case "CCC", "PBSZ", "PROT":
		return d.protect(s, c)
	case "ADAT", "CONF", "ENC", "MIC": // RFC 2228 section 3: of mechanisms other than TLS
		s.refuse(verdict.RefusedEncryption, 503, "%s needs a mechanism that this gateway does not have",
			c.Verb)
	case "REIN":
		if d.config.TLS.Server == forward.ServerTLSOff {
			return false
		}
		s.refuse(verdict.RefusedCommand, 502,
			"REIN is not possible over an encrypted connection to the server: connect again")
	case "CPSV", "SSCN":
		s.refuse(verdict.RefusedEncryption, 502, "%s is for encrypted transfers between servers", c.Verb)
	case "ALGS":
		return d.algs(s, c)
	default:
		return false
	}
	return true
}

// forward forwards a command to the server, byte for byte, also a transfer command without a data connection:
// the server refuses it, or waits for a negotiation.
func (d *Dialogue) forward(s *Step, line ftp.ClientLine) {
	transfer := slices.Contains(transfers, line.Command.Verb)
	if transfer && !d.loggedIn {
		s.refuse(verdict.RefusedNotLoggedIn, 530, "log in first")
		return
	}
	r := d.forwardLine(s, line)
	r.transfer, s.TransferBegan = transfer, transfer
	if transfer && d.dataReady {
		d.useData(s, r)
	}
}

// forwardLine sends the server a client's command unchanged, and awaits the answer.
func (d *Dialogue) forwardLine(s *Step, line ftp.ClientLine) *request {
	s.ToServer = append(slices.Grow(s.ToServer, len(line.Text)+2), line.Text...)
	s.ToServer = append(s.ToServer, '\r', '\n')
	r := d.queue.add(line.Command.Verb)
	if r.verb == "USER" {
		r.user = string(line.Command.Arg)
	}
	r.glued = line.Glued
	if s.Urgent > 0 && !d.InTransfer() { // pure-ftpd ignores a line with Telnet's commands outside a transfer
		r.optional, r.ignorable = true, true
	}
	return r
}

// useData gives a transfer the negotiated data connection, which serves one transfer.
func (d *Dialogue) useData(s *Step, transfer *request) {
	if s.Action = Use; d.bridge != nil {
		s.Action, s.Bridge = Bridge, d.bridge
	}
	transfer.hasData = true
	d.dataReady, d.bridge = false, nil
}
