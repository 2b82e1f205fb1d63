package sessions

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"ftpgate/internal/core/verdict"
)

// Connected records the connection to the server, and how long dialling took.
func (r *Record) Connected(server netip.AddrPort, took time.Duration) {
	r.locked(func() {
		r.server, r.pendingSince = server, time.Now()
		if r.log.Dialled != nil && took > 0 {
			r.log.Dialled(r.start.Forward, took)
		}
		r.keep(entry{after: time.Since(r.began), kind: KindSession, words: &serverConnected{server, took}})
	})
}

// Encrypted records TLS on a control connection: leg is "client" or "server", version like "TLS 1.3", details
// the cipher. An empty version records the end of TLS.
func (r *Record) Encrypted(leg, version, details string) {
	r.locked(func() {
		if leg == "client" {
			r.tls.Client = version
		} else {
			r.tls.Server = version
		}
		if version == "" {
			r.note(KindTLS, 0, "the control connection with the "+leg+" continues in clear")
			return
		}
		r.note(KindTLS, 0, fmt.Sprintf("the control connection with the %s is %s, %s", leg, version, details))
	})
}

// ClientCertificate records the subject of the certificate that the client presents; "": it presents none.
func (r *Record) ClientCertificate(subject string) {
	r.locked(func() {
		r.certificate = subject
		if subject != "" {
			r.note(KindTLS, 0, "the client presents the certificate of "+subject)
		}
	})
}

// PassedThrough records that the session is encrypted end to end from now on, and which passive ports are
// open for its data.
func (r *Record) PassedThrough(passthrough string) {
	r.locked(func() {
		r.passedThrough = true
		r.tls = TLS{"end to end", "end to end"}
		r.note(KindTLS, 0, "encrypted from end to end from here on; data connections through "+passthrough)
	})
}

// OnlyData records that the control connections are closed, and data connections continue without them.
func (r *Record) OnlyData() {
	r.locked(func() {
		r.onlyData = true
		r.note(KindSession, 0, "the control connections are closed, and data continues")
	})
}

// Command records a command of the client; text holds no secret.
func (r *Record) Command(at time.Time, text string) {
	r.locked(func() {
		r.active, r.pending = at, true
		r.pendingSince = at
		if r.pendingVerb, _, _ = strings.Cut(text, " "); text[0] == '(' {
			r.pendingVerb = ""
		}
		r.noteAt(r.active, KindCommand, 0, text)
	})
}

// Reply records a line of the server's reply; text holds no secret. more: the reply continues.
func (r *Record) Reply(at time.Time, text string, more bool) {
	r.locked(func() {
		r.active, r.greeted = at, true
		r.pending = r.pending && more
		r.noteAt(r.active, KindReply, 0, text)
	})
}

// Answered records the server's final reply to a command of the client that is no transfer.
func (r *Record) Answered(verb, reply string) {
	r.locked(func() {
		switch last := r.serverRefused; {
		case verdict.GivesReason(reply):
			r.serverRefused = &verdict.Fault{Code: verdict.CodeServerRefusedCommand, Verb: verb,
				Reason: reply}
		case last != nil && last.Verb == verb && reply[:1] == "2":
			r.serverRefused = nil
		}
	})
}

// Answer records a reply of the gateway in place of the server's.
func (r *Record) Answer(text string) {
	r.locked(func() {
		r.pending = false
		r.noteNext(KindAnswer, text)
	})
}

// Ask records a command of the gateway's in place of the client's.
func (r *Record) Ask(text string) {
	r.locked(func() { r.noteNext(KindAsk, text) })
}

// Alive records traffic that the gateway cannot read.
func (r *Record) Alive() { r.locked(func() { r.active = time.Now() }) }

// User records the name of the user who logs in.
func (r *Record) User(name string) { r.locked(func() { r.user = name }) }

// Login records whether a user is logged in now.
func (r *Record) Login(in bool) { r.locked(func() { r.loggedIn = in }) }

// Type records the representation type that the client set: "A" or "I".
func (r *Record) Type(t string) { r.locked(func() { r.typeCode = t }) }

// Opened records a new pinhole, and ends the one before it. asked is when the client asked for it.
func (r *Record) Opened(d Data, asked time.Time) {
	r.locked(func() {
		r.dataCount++
		r.data = &data{Data: d, number: r.dataCount, opened: time.Now()}
		took := r.data.opened.Sub(asked)
		r.log.stats.pinholes(d.Path).Add(1)
		if r.log.Opened != nil && d.Listen.IsValid() {
			r.log.Opened(r.start.Forward, d.Path, took)
		}
		r.keep(entry{after: r.data.opened.Sub(r.began), kind: KindPinhole, data: int32(r.dataCount),
			words: &pinholeOpened{d.Path, d.From, d.SourceIP, d.Listen, d.Target, took}})
	})
}

// Closed records that the last pinhole is closed: no peer can connect any more.
func (r *Record) Closed() {
	if r == nil {
		return
	}
	r.mu.Lock()
	d := r.data
	counted := d == nil || !d.closed.IsZero() || d.usedByTransfer // the end of its transfer records more
	now := time.Now()
	if d != nil && d.closed.IsZero() {
		r.followPath(d, d.outcome())
		r.close(d, now)
	}
	var s *finalizing
	if !counted {
		s = &finalizing{record: r, data: d}
		r.finalizing = append(r.finalizing, s)
	}
	r.mu.Unlock()
	if s != nil {
		r.log.finalize(s, now)
	}
}
