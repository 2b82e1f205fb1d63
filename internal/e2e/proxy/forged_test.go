package proxy

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// forge sends the first packet of a connection from an address and port to each port of a range, again and
// again until stop is closed, and counts the rounds.
func forge(h *lab.Host, from, to netip.Addr, first, last uint16, stop <-chan struct{}) (rounds int,
	err error) {
	err = h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for ; ; rounds++ {
			for port := int(first); port <= int(last); port++ {
				select {
				case <-stop:
					return nil
				default:
				}
				packet := firstPacket(netip.AddrPortFrom(from, uint16(20_000+rounds%1000)),
					netip.AddrPortFrom(to, uint16(port)))
				if err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil &&
					err != unix.ENOBUFS {
					return err
				}
			}
		}
	})
	return rounds, err
}

// firstPacket returns a SYN over IPv4 (RFC 9293 section 3.1). The kernel fills in the checksum of IP.
func firstPacket(from, to netip.AddrPort) []byte {
	const header = 20
	p := make([]byte, 2*header)
	p[0], p[8], p[9] = 4<<4|header/4, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	source, destination := from.Addr().As4(), to.Addr().As4()
	copy(p[12:], source[:])
	copy(p[16:], destination[:])
	tcp := p[header:]
	binary.BigEndian.PutUint16(tcp, from.Port())
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	binary.BigEndian.PutUint32(tcp[4:], 12345)
	tcp[12], tcp[13] = header/4<<4, 2 // SYN
	binary.BigEndian.PutUint16(tcp[14:], 1024)
	pseudo := append(append(append([]byte{}, source[:]...), destination[:]...), 0, unix.IPPROTO_TCP, 0,
		header)
	sum := uint32(0)
	for _, part := range [][]byte{pseudo, tcp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return p
}

// sweep forges first packets to all passive ports until the returned function is called, which returns how
// often each port got one.
func sweep(t *testing.T, h *lab.Host, from, to netip.Addr) (end func() int) {
	t.Helper()
	stop := make(chan struct{})
	var sweeping sync.WaitGroup
	rounds := 0
	sweeping.Go(func() {
		var err error
		if rounds, err = forge(h, from, to, 49152, 65535, stop); err != nil {
			t.Errorf("forge: %v", err)
		}
	})
	end = sync.OnceValue(func() int {
		close(stop)
		sweeping.Wait()
		return rounds
	})
	t.Cleanup(func() { end() })
	return end
}

// Transfers continue while an attacker sends first packets with the peer's address to all passive ports: the
// peer resets what they begin, or does not answer.
func TestForgedFirstPackets(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]bool{"reset": false, "unanswered": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, harness.DataPaths["kernel"]...)
			if silent {
				for _, h := range []*lab.Host{s.Client(), s.Server()} {
					harness.Shell(t, h, "nft 'table inet quiet { chain output { type filter hook output "+
						"priority 0; "+
						"tcp flags == rst drop; }; }'")
				}
			}
			p := s.Login()
			ends := []func() int{sweep(t, s.Client(), lab.ClientAddr4, lab.GatewayLAN4),
				sweep(t, s.Server(), lab.ServerAddr4, lab.GatewayWAN4)}
			for range 50 {
				p.Retrieve(netip.Addr{}).Complete()
				p.RetrieveActive().Complete()
			}
			for _, end := range ends {
				end()
			}
			p.Quit()
		})
	}
}

// One forged packet, and a few, leave the pinhole to its client. The pinhole is closed when the client has
// come.
func TestForgedBefore(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t, harness.DataPaths["kernel"]...)
	p := s.Login()
	for range 3 {
		data, at := p.Passive(netip.Addr{})
		for i := range 3 {
			err := s.Client().Do(func() error {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				return unix.Sendto(fd, firstPacket(netip.AddrPortFrom(lab.ClientAddr4, uint16(21_000+i)),
					at), 0,
					&unix.SockaddrInet4{Addr: at.Addr().As4()})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		c, err := harness.DialFrom(t, s.Client(), lab.ClientAddr4, at)
		if err != nil {
			t.Fatalf("the client, behind forged packets: %v", err)
		}
		b := harness.Transfer{Session: p, ServerData: harness.Accept(t, data), ClientData: c, Address: at}
		came := time.Now()
		s.AwaitNoPinholes()
		t.Logf("the pinhole was closed %s after its connection had come",
			time.Since(came).Round(time.Millisecond))
		s.WantNoData(lab.ClientAddr4, at)
		p.Exchange("RETR file", "150 here it comes")
		b.Complete()
	}
	p.Quit()
}
