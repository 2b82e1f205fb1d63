package port_test

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/dataplane/socket"
	"ftpgate/internal/proxyprotocol"
)

// The client behind the balancer, and another one. They have no address of this host.
var (
	behind  = netip.MustParseAddr("2001:db8::9") // the balancer changed the family
	another = netip.MustParseAddr("2001:db8::a")
)

// named keeps what peers it was given.
type named struct {
	receiver
	peers chan port.Peer
}

func (n *named) Accept(c *socket.Conn, peer port.Peer) {
	n.peers <- peer
	n.receiver.Accept(c, peer)
}

// headerOf is the header of a client that dialled a balancer.
func headerOf(client netip.Addr, version forward.ProxyProtocol) string {
	return string(proxyprotocol.Append(nil, version, proxyprotocol.Header{
		Client:  netip.AddrPortFrom(client, 40001),
		Dialled: netip.MustParseAddrPort("[2001:db8::1]:50000"),
	}))
}

// openBalanced opens a port for a client behind a balancer.
func openBalanced(t *testing.T) (a *port.Acceptor, n *named, at netip.AddrPort) {
	a, at = &port.Acceptor{}, gatewayPort(t)
	n = &named{receiver: receiver{conns: make(chan *socket.Conn, 10)}, peers: make(chan port.Peer, 10)}
	route, err := a.Open(behind, at, n, netip.PrefixFrom(relaytest.Inside, 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		route.Close()
		a.Wait()
	})
	return a, n, at
}

// A balancer's connection goes to the client that its header names, without the header.
func TestThroughBalancer(t *testing.T) {
	for _, version := range []forward.ProxyProtocol{forward.ProxyProtocolV1, forward.ProxyProtocolV2} {
		_, n, at := openBalanced(t)
		c := relaytest.Dial(t, relaytest.Inside, at)
		if _, err := c.Write([]byte(headerOf(behind, version) + "data")); err != nil {
			t.Fatal(err)
		}
		want := port.Peer{From: netip.AddrPortFrom(behind, 40001),
			Dialled: netip.MustParseAddrPort("[2001:db8::1]:50000")}
		if got := <-n.peers; got != want {
			t.Errorf("%s: got %+v; want %+v", version, got, want)
		}
		data, conn := make([]byte, 16), <-n.conns
		if got, err := conn.Read(data); string(data[:got]) != "data" || err != nil {
			t.Errorf("%s: got %q, %v; want data", version, data[:got], err)
		}
		conn.Close()
	}
}

// What a balancer must not send is reset, and so is a header from elsewhere.
func TestThroughBalancerRefused(t *testing.T) {
	right := headerOf(behind, forward.ProxyProtocolV2)
	for name, tt := range map[string]struct {
		from    netip.Addr
		sent    string
		refused netip.Addr // what the receiver hears of it; not valid: nothing
	}{
		"another client": {relaytest.Inside, headerOf(another, forward.ProxyProtocolV1), another},
		"no client":      {relaytest.Inside, "PROXY UNKNOWN\r\n", netip.Addr{}},
		"no header":      {relaytest.Inside, "data without a header", relaytest.Inside},
		"cut short":      {relaytest.Inside, right[:20], relaytest.Inside},
		"oversized":      {relaytest.Inside, right[:14] + "\xff\xff" + right, relaytest.Inside},
	} {
		t.Run(name, func(t *testing.T) {
			_, n, at := openBalanced(t)
			c := relaytest.Dial(t, tt.from, at)
			_, _ = c.Write([]byte(tt.sent)) // it may be reset already
			_ = c.CloseWrite()
			if got, err := c.Read(make([]byte, 1)); got > 0 || err == nil {
				t.Errorf("got %d bytes, %v; want the end", got, err)
			}
			relaytest.Await(t, func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return !tt.refused.IsValid() && len(n.refused) == 0 ||
					len(n.refused) == 1 && n.refused[0] == tt.refused
			}, func() string { return "the peer was not reported" })
			if len(n.peers) > 0 {
				t.Errorf("got %+v; want no connection", <-n.peers)
			}
		})
	}
}

// A header from elsewhere is not read.
func TestHeaderFromElsewhere(t *testing.T) {
	_, n, at := openBalanced(t)
	relaytest.WantCutOff(t, "a header from elsewhere", relaytest.Peer, at)
	relaytest.Await(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.refused) == 1 && n.refused[0] == relaytest.Peer
	}, func() string { return "the peer was not reported" })
}

// An address that is a balancer of one client is none of another client's: its connection would be taken for
// that of another one.
func TestBalancerIsNoClient(t *testing.T) {
	a, n, at := openBalanced(t)
	direct, _ := open(t, a, relaytest.Inside, at)
	c := relaytest.Dial(t, relaytest.Inside, at)
	if _, err := c.Write([]byte(headerOf(behind, forward.ProxyProtocolV1))); err != nil {
		t.Fatal(err)
	}
	(<-n.conns).Close()
	if len(direct.conns) > 0 {
		t.Error("the connection went to the balancer itself")
	}
}

// Connections without a header are bounded, and end with the port.
func TestHeadersBounded(t *testing.T) {
	a, at := &port.Acceptor{}, gatewayPort(t)
	route, err := a.Open(behind, at, newReceiver(), netip.PrefixFrom(relaytest.Inside, 32))
	if err != nil {
		t.Fatal(err)
	}
	const many = 70
	var ended sync.WaitGroup
	var reset atomic.Int32
	for range many {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: relaytest.Inside.AsSlice()}}
		c, err := d.DialContext(t.Context(), "tcp", at.String())
		if err != nil { // a reset before connect(2) has returned
			reset.Add(1)
			continue
		}
		ended.Go(func() {
			defer c.Close()
			_, _ = c.Read(make([]byte, 1))
			reset.Add(1)
		})
	}
	relaytest.Await(t, func() bool { return reset.Load() >= many-64 },
		func() string { return "too many connections wait for their header" })
	route.Close()
	a.Wait()
	ended.Wait()
}
