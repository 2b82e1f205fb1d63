package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/quirk"
)

const relayIntroduction = `
  client ------------- gateway ------------ server

All three are this program, on this machine's loopback, without any privilege.
The gateway copies the data connections itself.
`

// RunRelay runs the one act that needs no lab, through the relay, and writes the report to out.
func RunRelay(ctx context.Context, out io.Writer, testbed Testbed, setup Setup) (err error) {
	s := &scenario{out: out, testbed: testbed, setup: setup, prompt: "gateway$ "}
	server, err := s.start(ctx, relayIntroduction)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	stop, err := s.startQuirkServer(ctx)
	if err != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, err))
	}
	defer func() { _ = stop() }() // its sessions have ended
	if s.setup.gateway, s.setup.proxyToQuirks, err = freePorts(testbed.ClientHost()); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return s.runActs(ctx, end{column: "data path", next: `With your server in place of SERVER:
  ftpgate doctor 2121 SERVER      what is wrong here and at the server
  ftpgate forward :2121 SERVER    publish it at port 2121 until Ctrl-C
`}, act{
		title: "The relay",
		text: `ftpgate accepts the data connections itself, at ports of its own, and copies
them. This is its data path where it may not program the kernel.`,
		forwards: [][]string{
			{"--data", "relay", s.setup.gateway, s.setup.server},
			{"--data", "relay", s.setup.proxyToQuirks, s.setup.quirkServer},
		},
		run:    (*scenario).runThroughRelay,
		remedy: "It needs free ports of 127.0.0.1.",
	})
}

// runThroughRelay prints a session, then tries every mode, the speed, and a server that announces a wrong
// address.
func (s *scenario) runThroughRelay(ctx context.Context) error {
	s.printHeading("PASV: the client receives a port of the gateway")
	opts := sessionOptions{
		tracking: "relay", mode: "PASV, as shown", address: s.setup.gateway, serverLog: s.serverLog,
	}
	if err := s.runSession(ctx, opts, s.list(ftpclient.PASV), s.checkRelayPort); err != nil {
		return err
	}
	s.printHeading("Every mode: a listing, a download and an upload each")
	opts = sessionOptions{tracking: "relay", address: s.setup.gateway}
	err := s.runModes(ctx, opts, ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT, ftpclient.EPRT)
	if err != nil {
		return err
	}
	s.printHeading("A large file through the relay, and directly from the server")
	fmt.Fprint(s.out, "     Three programs share the processors with the relay, and two without.\n")
	if err := s.compareSpeed(ctx); err != nil {
		return err
	}
	return s.showForeignAddress(ctx)
}

// rounds is how many downloads are measured on each path: other programs on the machine disturb single ones.
const rounds = 5

// compareSpeed measures downloads through the relay and without it in turn, and prints the medians.
func (s *scenario) compareSpeed(ctx context.Context) error {
	var clients [2]*ftpclient.Client
	for i, address := range []string{s.setup.gateway, s.setup.server} {
		c, err := s.connect(ctx, s.testbed.ClientHost(), address, ftpserver.User, nil)
		if err != nil {
			return fmt.Errorf("download from %s: %w", address, err)
		}
		defer c.Close()
		clients[i] = c
	}
	var rates [2][]float64 // in MiB/s
	buf := make([]byte, len(s.setup.large))
	for range rounds {
		for i, c := range clients {
			took, err := c.Retrieve(ctx, ftpclient.PASV, largeName, buf)
			if err == nil && !bytes.Equal(buf, s.setup.large) {
				err = errors.New("the bytes are wrong")
			}
			if err != nil {
				return fmt.Errorf("download from %s: %w", c.Peer(), err)
			}
			rates[i] = append(rates[i], float64(len(buf))/(1<<20)/took.Seconds())
		}
	}
	relayed, direct := median(rates[0]), median(rates[1])
	fmt.Fprintf(s.out, "     relay:  %.0f MiB/s, the median of %d downloads by PASV\n", relayed, rounds)
	fmt.Fprintf(s.out, "     direct: %.0f MiB/s; the relay has %.2f of it\n", direct, relayed/direct)
	return nil
}

func median(rates []float64) float64 {
	slices.Sort(rates)
	return rates[len(rates)/2]
}

// checkRelayPort checks that the client received a port of the gateway in the last 227, not the server's.
func (s *scenario) checkRelayPort(_ context.Context, c *session) error {
	gateway := netip.MustParseAddrPort(s.setup.gateway).Addr()
	sent, received := c.transcript.Server227, c.transcript.Client227
	if received.Addr() != gateway || received == sent {
		return fmt.Errorf("227: the server sent %s and the client received %s; "+
			"want a port of the gateway at %s",
			sent, received, gateway)
	}
	return nil
}

// showForeignAddress gets a listing from a server that announces the address of another host.
func (s *scenario) showForeignAddress(ctx context.Context) error {
	s.printHeading("A server that announces the address of another host")
	qc := quirkCase{quirk: quirk.Foreign}
	server := netip.MustParseAddrPort(s.setup.quirkServer).Addr()
	gateway := netip.MustParseAddrPort(s.setup.proxyToQuirks).Addr()
	r := s.tryQuirk(ctx, s.setup.proxyToQuirks, qc.quirk, sessionTimeout)
	fmt.Fprintf(s.out, "     server: %s\n     client: %s\n", qc.sends(server), r)
	if !r.gotListing() || r.address.Addr() != gateway {
		return fmt.Errorf("a server with a wrong address: %s; want the listing, and %s in the 227", r,
			gateway)
	}
	return nil
}

// freePorts returns two addresses of 127.0.0.1 with ports on which no program listens now.
func freePorts(h Host) (one, other string, err error) {
	var l [2]net.Listener
	for i := range l {
		if l[i], err = h.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", "", fmt.Errorf("find a free port: %w", err)
		}
		defer l[i].Close()
	}
	return l[0].Addr().String(), l[1].Addr().String(), nil
}
