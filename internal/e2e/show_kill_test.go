package e2e

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// identified is the identifier of the session that runs with a client.
func (s *shown) identified(p pair) string {
	s.t.Helper()
	return s.awaitSession("the session", func(one seen) bool { return one.Client == p.client.LocalAddr().String() }).ID
}

// killed has a session killed, and expects both ends to learn of it, and no other session.
func (s *shown) killed(p pair, id string) {
	s.t.Helper()
	if got, want := s.answer("kill", id), "session "+id+" has been ended\n"; got != want {
		s.t.Errorf("kill: got %q; want %q", got, want)
	}
	p.client.hear("421 the operator has ended the session")
	p.client.ended()
	p.server.ended()
	ended := s.awaitSession("the end of "+id, func(one seen) bool { return one.ID == id && one.State == "ended" }, "--ended")
	if ended.Verdict.Code != "killed" || !strings.Contains(ended.Verdict.Text, "ended by an operator") {
		s.t.Errorf("got the verdict %+v; want it killed", ended.Verdict)
	}
	wantLines(s.t, s.answer("explain", id), "verdict    ended by an operator\n")
	wantLines(s.t, s.text(), fmt.Sprintf(`msg="session killed" session=%s by="user %d, process `, id, os.Getuid()))
}

// A session that is killed ends at both ends at once, with its transfer and its pinholes; others go on.
func TestShowKill(t *testing.T) {
	for path := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "nft")
			st, s := newShownStage(t, fmt.Sprintf(oneForward+"data = %q\n", "files", gateway4, path))
			other, waiting, busy := st.login(), st.login(), st.login()
			_, at := waiting.passive(netip.Addr{})
			b := busy.retrieve(netip.Addr{})
			b.carry(payload(300_000))
			if path == "kernel" {
				st.wantHoles(2, "with a transfer and a negotiation")
			}
			s.killed(waiting, s.identified(waiting))
			if c, err := dialFrom(t, st.Client(), homeOf(waiting), at); err == nil {
				t.Errorf("after the kill got a connection to %s (%s); want none", at, c.RemoteAddr())
			}
			id := s.identified(busy)
			s.killed(busy, id)
			if path == "kernel" {
				st.wantHoles(0, "after both were killed")
				until(t, "the server's data connection broken", func() bool { _, err := b.from.Write(payload(1)); return err != nil })
			} else if n, err := io.Copy(io.Discard, b.to); err == nil {
				t.Errorf("the data connection ends well after %d more bytes; want it broken", n)
			}
			other.retrieve(netip.Addr{}).complete()

			for what, want := range map[string]string{id: "session " + id + " has ended already", "nobody-1": "there is no session nobody-1",
				"4711": "there is no session 4711", "a b\x1b[0m": "there is no session of this name"} {
				stdout, stderr, status := s.ask("kill", what)
				wantOneLine(t, "kill "+what, stdout, stderr, status, want)
			}
			other.quit()
			s.interrupt()
			byEnd := map[bool]moved{}
			for _, one := range lines(t, s.transfers) {
				byEnd[one.Complete] = one
			}
			if cut := byEnd[false]; len(byEnd) != 2 || cut.Session != id || cut.Bytes != 300_000 || cut.Verdict == "" {
				t.Errorf("got the transfers %+v; want one complete, and %s cut off with a reason", byEnd, id)
			}
		})
	}
}

// homeOf is the client's own address.
func homeOf(p pair) netip.Addr { return p.client.LocalAddr().(*net.TCPAddr).AddrPort().Addr() }

// A reload is asked for, and answered when it holds; one that fails changes nothing, and says where.
func TestShowReload(t *testing.T) {
	t.Parallel()
	stays := fmt.Sprintf(oneForward, "stays", gateway4)
	st, s := newShownStage(t, stays)
	p := st.login()
	b := p.retrieve(netip.Addr{})
	b.carry(payload(300_000))
	if s.status().Reload != nil {
		t.Error("got a reload; want none so far")
	}

	s.configure(t, stays+fmt.Sprintf(oneForward, "more", "192.168.5.2:2122"))
	if got, want := s.answer("reload"), s.file+": read again, 2 forwards\n"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if got := s.status(); len(got.Forwards) != 2 || got.Reload == nil || !got.Reload.OK {
		t.Errorf("got %+v; want two forwards, and the reload well", got)
	}
	second := &stage{Lab: st.Lab, t: t, gate: st.gate, control: st.control, dial: "192.168.5.2:2122"}
	second.login()

	for _, tt := range []struct {
		forwards string
		status   int
		told     string
	}{
		{strings.Replace(stays, "listen", "lissten", 1), 2, s.file + `:9:1: forward 1 ("stays"): unknown key "lissten": did you mean "listen"?`},
		{"[[forward\n", 2, s.file + ":7:"},
		{fmt.Sprintf(oneForward, "stays", "192.168.9.9:2121"), 1, "192.168.9.9 is not an address of this host"},
	} {
		s.configure(t, tt.forwards)
		stdout, stderr, status := s.ask("reload")
		if status != tt.status || stdout != "" {
			t.Errorf("got exit status %d, printed %q; want %d", status, stdout, tt.status)
		}
		wantLines(t, stderr, tt.told)
		got := s.status()
		if len(got.Forwards) != 2 || got.Reload == nil || got.Reload.OK || !strings.Contains(got.Reload.Error, strings.TrimPrefix(tt.told, "ftpgate: ")) {
			t.Errorf("got %+v; want two forwards, and the reload failed: %s", got, tt.told)
		}
	}
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := s.ask("reload")
	if status == 0 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "no such file") {
		t.Errorf("without a file got exit status %d, %q, %q; want one line that says so", status, stdout, stderr)
	}
	if n := len(s.sessions()); n != 2 {
		t.Errorf("got %d sessions; want the two of before", n)
	}
	b.complete()
	p.quit()
}
