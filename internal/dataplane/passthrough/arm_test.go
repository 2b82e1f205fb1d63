package passthrough

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/dataplane/relaytest"
)

// A client is reset at the ports of its passthrough before a session has armed it, and after the last one
// that has is closed.
func TestArm(t *testing.T) {
	r, servers := ranged(t, relaytest.Server, 1)
	ps := newPassthroughs(t, nil)
	waiting := reserve(t, ps, passthroughTo(r))
	defer waiting.Close()
	refused := func() {
		t.Helper()
		d := net.Dialer{Timeout: relaytest.Patience,
			LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(relaytest.Peer, 0))}
		c, err := d.Dial("tcp", netip.AddrPortFrom(relaytest.Gateway, r.First).String())
		if err == nil {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(relaytest.Patience))
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got error %v; want a reset", err)
		}
	}
	refused()
	armed := reserve(t, ps, passthroughTo(r))
	for range 2 {
		if err := armed.Arm(); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		if c, err := servers[0].Accept(); err == nil {
			c.Close()
		}
	}()
	c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(relaytest.Peer, 0)),
		net.TCPAddrFromAddrPort(netip.AddrPortFrom(relaytest.Gateway, r.First)))
	if err != nil {
		t.Fatal(err)
	}
	relaytest.WantData(t, "client", c, nil)
	c.Close()
	armed.Close()
	refused()
	if err := armed.Arm(); err != nil {
		t.Error(err)
	}
	refused()
	ps.await(t, 1)
}
