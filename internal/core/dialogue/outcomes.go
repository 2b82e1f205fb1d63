package dialogue

import (
	"cmp"
	"net/netip"
	"slices"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// Opened reports the address of the pinhole that the last step asked for. The step that it returns replaces
// the last one.
func (d *Dialogue) Opened(at netip.AddrPort) (s Step) {
	s.ToClient = slices.Clone(d.last.toClient)
	verb, same := d.queue.last().verb, d.queue.last().verb == d.sentVerb
	if verb == "PORT" || verb == "EPRT" {
		d.askActive(&s, verb, at)
		return d.returned(&s, d.last.code)
	}
	d.agree()
	s.Action = Arm
	d.serveWaiting(&s)
	s.ToClient = endLine(d.appendOffer(s.ToClient, verb, same, at.Port()), d.lineEnding)
	return d.returned(&s, d.last.code)
}

// Failed reports that the last step's action failed. The step that it returns replaces the last one; it
// answers the client with text, if there is one. remedy is for the operator.
func (d *Dialogue) Failed(text, remedy string) (s Step) {
	failed, passthrough := d.last.action, d.last.transition == Passthrough
	byCommand := d.last.code == 0
	if failed == Bridge && byCommand || failed == Open || failed == OpenPassthrough && !passthrough {
		d.queue.dropLast() // the server gets no command: the gateway answers
	} else if t := d.queue.transfer(); t != nil {
		t.hasData = false // it waits on
	}
	d.sentVerb = ""
	d.dataReady, d.bridge = false, nil
	s.Action, s.Refusal.Remedy = Close, remedy
	switch failed {
	case OpenPassthrough, PrepareTLS: // RFC 2228 section 5: a resource that security needs
		d.protection = protection{}
		noTLS := cmp.Or(text, "encryption is not possible now, try again later")
		s.refuse(verdict.RefusedEncryption, 431, "%s", noTLS)
		s.End = passthrough // the client would take the answer for TLS
	default:
		noData := cmp.Or(text, "no data connection is possible now, try again later")
		s.refuse(verdict.RefusedNoPort, 425, "%s", noData)
	}
	return d.returned(&s, d.last.code)
}

// Broken reports that the data of the transfer that the last step ends was not delivered, and why. The step
// that it returns replaces the last one: its reply gives the reason in place of the server's reply. A failure
// with a text and no reply code leaves the server's reply; one without a text gets a 426.
func (d *Dialogue) Broken(why pinhole.Failure) (s Step) {
	if why.Reason == "" {
		why.ReplyCode, why.Reason = 426, "the data connection broke off, the transfer is not complete"
	}
	s.refuse(verdict.RefusedBrokenTransfer, why.ReplyCode, "%s", why.Reason)
	s.Refusal.Remedy = why.Remedy
	if why.ReplyCode != 0 {
		d.dataReady = false
	}
	if why.ReplyCode == 0 || d.last.partlySent { // or it is too late to replace the reply
		s.ToClient = slices.Clone(d.last.toClient)
	}
	return d.returned(&s, d.last.code)
}

// dataRefused reports whether a reply says that the data connection failed, or does not meet the server's
// requirements (RFC 959 section 4.2, RFC 2228 section 3, RFC 4217 section 10).
func dataRefused(code int) bool {
	return code == 425 || code == 426 || code/10 == 52 || code/10 == 53
}
