package harness

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
)

// Transfer is a transfer with an open data connection.
type Transfer struct {
	Session
	ServerData, ClientData net.Conn // the ends of the data connection
	Address                netip.AddrPort
}

// Retrieve starts a transfer in passive mode. The server announces the address named, or its own.
func (p Session) Retrieve(named netip.Addr) Transfer {
	p.T.Helper()
	data, at := p.Passive(named)
	c, err := DialFrom(p.T, p.Lab.Client(), p.Client.LocalAddr().(*net.TCPAddr).AddrPort().Addr(), at)
	if err != nil {
		p.T.Fatalf("data connection to %s: %v", at, err)
	}
	s := Accept(p.T, data)
	p.Exchange("RETR file", "150 here it comes")
	return Transfer{p, s, c, at}
}

// RetrieveActive starts a transfer in active mode.
func (p Session) RetrieveActive() Transfer {
	p.T.Helper()
	data, at := p.Active()
	p.Client.Send("RETR file")
	p.Server.Expect("RETR file")
	s, err := DialFrom(p.T, p.Lab.Server(), p.Server.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), at)
	if err != nil {
		p.T.Fatalf("data connection to %s: %v", at, err)
	}
	c := Accept(p.T, data)
	p.Server.Send("150 here it comes")
	p.Client.Expect("150")
	return Transfer{p, s, c, at}
}

// RandomBytes returns n bytes, other ones each time.
func RandomBytes(n int) []byte {
	data := make([]byte, n)
	rand.Read(data)
	return data
}

// Carry sends bytes from the server, and expects them at the client.
func (b Transfer) Carry(data []byte) {
	b.T.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := b.ServerData.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(b.ClientData, got); err != nil {
		b.T.Fatalf("read the data: %v", err)
	}
	if err := <-sent; err != nil {
		b.T.Fatalf("send the data: %v", err)
	}
	if !bytes.Equal(got, data) {
		b.T.Fatal("got other bytes than were sent")
	}
}

// Finish closes the data connection at the server. The client must see a clean end.
func (b Transfer) Finish() {
	b.T.Helper()
	b.ServerData.Close()
	if rest, err := io.ReadAll(b.ClientData); err != nil || len(rest) > 0 {
		b.T.Fatalf("after the last byte got %d more and error %v; want the end", len(rest), err)
	}
	b.ClientData.Close()
}

// Complete sends some more data, finishes the transfer, and has the server send 226.
func (b Transfer) Complete() {
	b.T.Helper()
	b.Carry(RandomBytes(100_003))
	b.Finish()
	b.Server.Send("226 complete")
	b.Client.Expect("226")
}
