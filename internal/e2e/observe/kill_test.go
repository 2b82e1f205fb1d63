package observe

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab/labtest"
)

// sessionID returns the identifier of a client's session.
func sessionID(s *harness.AdminGateway, p harness.Session) string {
	s.T.Helper()
	return s.AwaitSession("the session",
		func(one harness.SessionInfo) bool { return one.Client == p.Client.LocalAddr().String() }).ID
}

// wantKilled kills a session, and expects that both ends hear of it.
func wantKilled(s *harness.AdminGateway, p harness.Session, id string) {
	s.T.Helper()
	if got, want := s.Output("kill", id), "session "+id+": ending\n"; got != want {
		s.T.Errorf("kill: got %q; want %q", got, want)
	}
	p.Client.Expect("421 an operator ended the session")
	p.Client.ExpectClose()
	p.Server.ExpectClose()
	ended := s.AwaitSession("the end of "+id, func(one harness.SessionInfo) bool {
		return one.ID == id &&
			one.State == "ended"
	}, "--ended")
	if ended.Verdict.Code != "killed" || !strings.Contains(ended.Verdict.Text, "ended by an operator") {
		s.T.Errorf("got the verdict %+v; want it killed", ended.Verdict)
	}
	harness.WantContains(s.T, s.Output("explain", id), "verdict    ended by an operator\n")
	harness.WantContains(s.T, s.Log(), fmt.Sprintf(`msg="session killed" session=%s by="user %d, process `,
		id, os.Getuid()))
}

// kill ends a session at both ends at once, with its transfer and its pinholes. Others continue.
func TestKill(t *testing.T) {
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "nft")
			st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
				harness.Gateway4, path))
			other, waiting, busy := st.Login(), st.Login(), st.Login()
			_, at := waiting.Passive(netip.Addr{})
			b := busy.Retrieve(netip.Addr{})
			b.Carry(harness.RandomBytes(300_000))
			if path == "kernel" { // that of a connection which is complete is closed
				st.AwaitPinholes(1, "with a transfer and a negotiation")
			}
			wantKilled(s, waiting, sessionID(s, waiting))
			if c, err := harness.DialFrom(t, st.Client(), clientAddr(waiting), at); err == nil {
				t.Errorf("after the kill got a connection to %s (%s); want none", at, c.RemoteAddr())
			}
			id := sessionID(s, busy)
			for _, c := range []net.Conn{b.ClientData, b.ServerData} { // it would find out by itself
				if err := c.(*net.TCPConn).SetKeepAlive(false); err != nil {
					t.Fatal(err)
				}
			}
			wantKilled(s, busy, id)
			if path == "kernel" {
				st.WantPinholes(0, "after both were killed")
				harness.WantBroken(t, "the server", b.ServerData) // although neither end sends anything
			}
			harness.WantBroken(t, "the client", b.ClientData)
			other.Retrieve(netip.Addr{}).Complete()

			for what, want := range map[string]string{id: "session " + id + " has ended already",
				"none-1": "there is no session none-1",
				"4711":   "there is no session 4711", "a b\x1b[0m": "there is no session of this name"} {
				stdout, stderr, status := s.Run("kill", what)
				wantOneLine(t, "kill "+what, stdout, stderr, status, want)
			}
			other.Quit()
			s.Interrupt()
			byEnd := map[bool]harness.TransferInfo{}
			for _, one := range harness.ReadTransferLog(t, s.TransferLog) {
				byEnd[one.Complete] = one
			}
			cut := byEnd[false]
			if len(byEnd) != 2 || cut.Session != id || cut.Verdict == "" {
				t.Errorf("got the transfers %+v; want one complete, and %s cut off with a reason", byEnd, id)
			}
			wantWithoutEnd(t, path, b.ServerData, cut.Bytes, 300_000)
		})
	}
}

// clientAddr returns the client's own address.
func clientAddr(p harness.Session) netip.Addr {
	return p.Client.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
}

// reload answers when the new configuration is in effect. One that fails changes nothing, and names the
// place.
func TestReload(t *testing.T) {
	t.Parallel()
	stays := fmt.Sprintf(harness.ForwardConfig, "stays", harness.Gateway4)
	st, s := harness.NewAdminTestbed(t, stays)
	p := st.Login()
	b := p.Retrieve(netip.Addr{})
	b.Carry(harness.RandomBytes(300_000))
	if s.Status().Reload != nil {
		t.Error("got a reload; want none so far")
	}

	s.WriteConfig(t, stays+fmt.Sprintf(harness.ForwardConfig, "more", "192.168.5.2:2122"))
	if got, want := s.Output("reload"), s.ConfigFile+": read again, 2 forwards\n"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if got := s.Status(); len(got.Forwards) != 2 || got.Reload == nil || !got.Reload.OK {
		t.Errorf("got %+v; want two forwards, and the reload well", got)
	}
	second := &harness.Testbed{Lab: st.Lab, T: t, Program: st.Program, Listener: st.Listener,
		Address: "192.168.5.2:2122"}
	second.Login()

	for _, tt := range []struct {
		forwards string
		status   int
		fault    string
	}{
		{strings.Replace(stays, "listen", "lissten", 1), 2, s.ConfigFile +
			`:10:1: forward 1 ("stays"): unknown key "lissten": did you mean "listen"?`},
		{"[[forward\n", 2, s.ConfigFile + ":8:"},
		{fmt.Sprintf(harness.ForwardConfig, "stays", "192.168.9.9:2121"), 1,
			"192.168.9.9 is not an address of this host"},
	} {
		s.WriteConfig(t, tt.forwards)
		stdout, stderr, status := s.Run("reload")
		if status != tt.status || stdout != "" {
			t.Errorf("got exit status %d, printed %q; want %d", status, stdout, tt.status)
		}
		harness.WantContains(t, stderr, tt.fault)
		got := s.Status()
		if len(got.Forwards) != 2 || got.Reload == nil || got.Reload.OK ||
			!strings.Contains(got.Reload.Error, strings.TrimPrefix(tt.fault, "ftpgate: ")) {
			t.Errorf("got %+v; want two forwards, and the reload failed: %s", got, tt.fault)
		}
	}
	if err := os.Remove(s.ConfigFile); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := s.Run("reload")
	if status == 0 || stdout != "" || strings.Count(stderr, "\n") != 1 ||
		!strings.Contains(stderr, "no such file") {
		t.Errorf("without a file got exit status %d, %q, %q; want one line that says so", status, stdout,
			stderr)
	}
	if n := len(s.Sessions()); n != 2 {
		t.Errorf("got %d sessions; want the two of before", n)
	}
	b.Complete()
	p.Quit()
}
