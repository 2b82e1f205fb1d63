package relay

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/relaytest"
)

// A server that closes, and whose kernel has forgotten the connection when a segment comes late, sends a
// reset behind its FIN. Its data is complete all the same, as it is for a client without a gateway.
func TestResetBehindFIN(t *testing.T) {
	l := relaytest.Listen(t, relaytest.Server)
	h := pinholeTo(l)
	h.Active = true
	dc := reserve(t, opener(), h)
	srv := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	file := relaytest.Noise(1000)
	if _, err := srv.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := srv.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	relaytest.Await(t, func() bool { return inState(srv, unix.BPF_TCP_FIN_WAIT2) },
		func() string { return "the FIN has not arrived" })
	relaytest.Reset(srv)
	if !dc.Waiting() {
		t.Fatal("got no connection that waits; want the server's")
	}
	if err := dc.Arm(); err != nil {
		t.Fatal(err)
	}
	client := relaytest.Accept(t, l)
	relaytest.WantData(t, "client", client, file)
	if wait(t, dc); dc.ServerReset() {
		t.Error("got a download that the server has reset; want a complete one")
	}
}

// inState reports whether a connection is in a state of TCP's.
func inState(c *net.TCPConn, state uint8) bool {
	info, err := tcpInfo(c)
	return err == nil && info.State == state
}
