package sessions

import (
	"fmt"
	"net/netip"
	"time"

	"ftpgate/internal/core/verdict"
)

// Connected tells that the session has its server, and how long that took.
func (r *Record) Connected(server netip.AddrPort, took time.Duration) {
	r.edit(func() {
		r.server = server
		if r.journal.Dialled != nil && took > 0 {
			r.journal.Dialled(r.opening.Forward, took)
		}
		r.note(KindSession, 0, fmt.Sprintf("connected to %s after %s", server, verdict.Round(took)))
	})
}

// Encrypted tells of TLS on a control connection; leg is "client" or "server", state like "TLS 1.3, CIPHER".
// An empty state: it has ended.
func (r *Record) Encrypted(leg, version, details string) {
	r.edit(func() {
		if leg == "client" {
			r.tls.Client = version
		} else {
			r.tls.Server = version
		}
		if version == "" {
			r.note(KindTLS, 0, "the control connection with the "+leg+" goes on in clear")
			return
		}
		r.note(KindTLS, 0, fmt.Sprintf("the control connection with the %s is %s, %s", leg, version, details))
	})
}

// Through tells that the session is encrypted from end to end from now on, and that its data goes through a
// passage.
func (r *Record) Through(passage string) {
	r.edit(func() {
		r.through = true
		r.tls = TLS{"end to end", "end to end"}
		r.note(KindTLS, 0, "from here on encrypted from end to end; data connections through "+passage)
	})
}

// Command tells what the client has sent, and when; text holds no secret.
func (r *Record) Command(at time.Time, text string) {
	r.edit(func() {
		r.active, r.pending = at, true
		r.noteAt(r.active, KindCommand, 0, text)
	})
}

// Reply tells what the server has answered, and when; text holds no secret. more: it is not the whole answer.
func (r *Record) Reply(at time.Time, text string, more bool) {
	r.edit(func() {
		r.active, r.greeted = at, true
		r.pending = r.pending && more
		r.noteAt(r.active, KindReply, 0, text)
	})
}

// Answer tells what the gateway has told the client in place of the server.
func (r *Record) Answer(text string) {
	r.edit(func() {
		r.pending = false
		r.noteNext(KindAnswer, text)
	})
}

// Ask tells what the gateway has sent the server in place of the client's words.
func (r *Record) Ask(text string) {
	r.edit(func() { r.noteNext(KindAsk, text) })
}

// Alive tells that something was said that nobody here can read.
func (r *Record) Alive() { r.edit(func() { r.active = time.Now() }) }

// User tells who logs in.
func (r *Record) User(name string) { r.edit(func() { r.user = name }) }

// Login tells whether somebody is logged in now.
func (r *Record) Login(in bool) { r.edit(func() { r.loggedIn = in }) }

// Type tells how the client wants files represented: "A" or "I".
func (r *Record) Type(t string) { r.edit(func() { r.kind = t }) }

// Opened tells of a data connection that is agreed upon from now on; the one before it is over. asked is when it was
// asked for.
func (r *Record) Opened(d Data, asked time.Time) {
	r.edit(func() {
		r.numbers++
		r.data = &data{Data: d, number: r.numbers, opened: time.Now()}
		took := r.data.opened.Sub(asked)
		r.journal.pinholes(d.Path).Add(1)
		if r.journal.Opened != nil && d.At.IsValid() {
			r.journal.Opened(r.opening.Forward, d.Path, took)
		}
		r.keep(entry{after: r.data.opened.Sub(r.began), kind: KindPinhole, data: int32(r.numbers),
			words: &opened{d.Path, d.From, d.As, d.At, d.To, took}})
	})
}

// Closed tells that nothing can come through the last data connection any more.
func (r *Record) Closed() {
	if r == nil {
		return
	}
	r.mu.Lock()
	d := r.data
	mute := d == nil || !d.closed.IsZero() || d.wanted // the end of its transfer says more
	var now time.Time
	if d != nil && d.closed.IsZero() {
		now = time.Now()
		r.close(d, now)
	}
	r.mu.Unlock()
	if !mute {
		r.journal.settle(&settling{record: r, data: d}, now)
	}
}
