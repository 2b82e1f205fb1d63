package proxy

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/observe/sessions"
)

// Whose certificate the client presents stands in the log, in the session and in its transfers.
func TestClientCertificate(t *testing.T) {
	k := newKeys(t)
	k.subject = "CN=scanner 7"
	j := sessions.New(time.Now())
	b := newStage(t, encrypting(k, required), withJournal(j)).connect()
	b.auth(k)
	b.login()
	b.ask("QUIT", "221 bye")
	b.client.heardAll()
	b.await("the session's end", func() bool { return ended(j) == 1 })
	e, text := b.timeline(j)
	if e.Certificate != k.subject || in(text, "the client presents the certificate of CN=scanner 7") != "" {
		t.Errorf("got %q, time line %s; want %q", e.Certificate, text, k.subject)
	}
	if !strings.Contains(b.logs.String(), `certificate="CN=scanner 7"`) {
		t.Errorf("log: got no certificate: %s", b.logs)
	}
}

// ended is how many sessions have ended.
func ended(j *sessions.Log) int { return len(slices.Collect(j.Ended())) }

// A client whose certificate is revoked reads why, in TLS, and its session says so.
func TestClientCertificateRefused(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		k := newKeys(t)
		k.subject, k.refused = "CN=scanner 7", errors.New("revoked")
		j := sessions.New(time.Now())
		b := newStage(t, encrypting(k, func(f *forward.Forward) {
			required(f)
			f.TLS.Implicit = implicit
		}), withJournal(j))
		if implicit {
			b.client = b.dial()
			b.client.encrypt(k, false)
			b.accept()
		} else {
			b.connect().auth(k)
		}
		b.client.hear("421 explained")
		b.client.heardAll()
		b.await("the session's end", func() bool { return ended(j) == 1 })
		b.wantRefused("encryption=1")
		e, _ := b.timeline(j)
		if e.Verdict.Text != "explained" || e.Verdict.Remedy != "mended" ||
			e.Certificate != k.subject {
			t.Errorf("got %+v of %q; want what the client was told, and whose certificate it is", e.Verdict,
				e.Certificate)
		}
	}
}

// After REIN another user may come, without the certificate. After CCC the user stays.
func TestClientCertificateForgotten(t *testing.T) {
	for command, want := range map[string]string{"REIN": "", "CCC": "CN=scanner 7"} {
		k := newKeys(t)
		k.subject = "CN=scanner 7"
		j := sessions.New(time.Now())
		b := newStage(t, encrypting(k, func(f *forward.Forward) {
			optional(f)
			f.TLS.CCC = true
		}), withJournal(j)).connect()
		b.auth(k)
		b.login()
		if command == "REIN" {
			b.ask("REIN", "220 anew")
		} else {
			b.client.say("CCC\r\n")
			b.client.hear("200 the control connection continues in plain text")
		}
		if _, err := b.client.lines.ReadByte(); err != io.EOF {
			t.Fatalf("%s: got %v; want close_notify", command, err)
		}
		b.client.decrypt(true)
		b.ask("NOOP", "200 ok")
		for s := range j.Running() {
			if s.Certificate != want {
				t.Errorf("%s: got %q; want %q", command, s.Certificate, want)
			}
		}
	}
}
