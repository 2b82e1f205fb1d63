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
	"time"

	"ftpgate/internal/try/demo/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/quirk"
)

const relayIntroduction = `
  client ------------- gateway ------------ server

All three are this program, on this machine's loopback. None has a privilege,
and the gateway copies what the kernel would translate.
`

// RunRelay plays the one act that needs no lab.
func RunRelay(ctx context.Context, out io.Writer, st Testbed, c Setup) (told error) {
	begin := time.Now()
	s := &scenario{out: out, testbed: st, setup: c, prompt: "gateway$ "}
	fmt.Fprint(out, relayIntroduction)
	server, err := st.StartServer(ctx, c.server, TLSOff)
	if err != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, err))
	}
	defer func() { told = errors.Join(told, server.Stop()) }()
	s.serverLog, s.setup.server = server.Log, server.Address
	stop, err := s.startQuirkServer(ctx)
	if err != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, err))
	}
	defer func() { _ = stop() }() // its sessions are over
	if s.setup.gateway, s.setup.proxyToQuirks, err = freePorts(st.ClientHost()); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	a := part{
		title: "The relay",
		text: `ftpgate takes the data connections itself, at ports of its own, and copies
them. It is what it does where it may not program the kernel.`,
		forwards: [][]string{
			{"--data", "relay", s.setup.gateway, s.setup.server},
			{"--data", "relay", s.setup.proxyToQuirks, s.setup.quirkServer},
		},
		run:    (*scenario).runThroughRelay,
		remedy: "It needs ports of 127.0.0.1 that are free.",
	}
	var faults []error
	if err := s.runPart(ctx, a); err != nil {
		faults = append(faults, fmt.Errorf("demo: %s: %w", a.title, err))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, errors.Join(faults...)))
	}
	s.printTable("data path")
	return s.printResult(begin, faults)
}

// runThroughRelay shows a session, then every mode, how fast it is, and a server that says a wrong address.
func (s *scenario) runThroughRelay(ctx context.Context) error {
	s.printHeading("PASV: the client is told a port of the gateway")
	shown := sessionOptions{tracking: "relay", mode: "PASV, as shown", address: s.setup.gateway, serverLog: s.serverLog}
	if err := s.runSession(ctx, shown, s.list(ftpclient.PASV), s.checkRelayPort); err != nil {
		return err
	}
	s.printHeading("Every mode: a listing, a download and an upload each")
	if err := s.runModes(ctx, sessionOptions{tracking: "relay", address: s.setup.gateway}, ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT, ftpclient.EPRT); err != nil {
		return err
	}
	s.printHeading("A large file through the relay, and without a gateway")
	fmt.Fprint(s.out, "     Two programs share the processors without it, and three with it.\n")
	if err := s.compareSpeed(ctx); err != nil {
		return err
	}
	return s.showForeignAddress(ctx)
}

// rounds is how often a download is measured: the machine has other things to do, too.
const rounds = 5

// compareSpeed measures downloads through the relay and without it in turn, and tells the medians.
func (s *scenario) compareSpeed(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sessionTimeout, fmt.Errorf("the downloads have not ended within %s", sessionTimeout))
	defer cancel()
	var clients [2]*ftpclient.Client
	for i, at := range []string{s.setup.gateway, s.setup.server} {
		c, err := s.connect(ctx, s.testbed.ClientHost(), at, ftpserver.User, nil)
		if err != nil {
			return fmt.Errorf("download from %s: %w", at, err)
		}
		defer c.Close()
		clients[i] = c
	}
	var rates [2][]float64 // in MiB/s
	buf := make([]byte, len(s.setup.download))
	for range rounds {
		for i, c := range clients {
			took, err := c.Retrieve(ctx, ftpclient.PASV, downloadName, buf)
			if err == nil && !bytes.Equal(buf, s.setup.download) {
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

// checkRelayPort looks at the last 227: the client was told another place than the server's.
func (s *scenario) checkRelayPort(_ context.Context, c *session) error {
	gateway := netip.MustParseAddrPort(s.setup.gateway).Addr()
	if c.transcript.Client227.Addr() != gateway || c.transcript.Client227 == c.transcript.Server227 {
		return fmt.Errorf("227: the server said %s and the client was told %s; want a port of the gateway at %s",
			c.transcript.Server227, c.transcript.Client227, gateway)
	}
	return nil
}

// showForeignAddress has a listing of a server that announces an address where it is not.
func (s *scenario) showForeignAddress(ctx context.Context) error {
	s.printHeading("A server that says an address of somewhere else")
	o := quirkCase{quirk: quirk.Foreign}
	server, gateway := netip.MustParseAddrPort(s.setup.quirkServer).Addr(), netip.MustParseAddrPort(s.setup.proxyToQuirks).Addr()
	f := s.tryQuirk(ctx, s.setup.proxyToQuirks, o.quirk, sessionTimeout)
	fmt.Fprintf(s.out, "     server: %s\n     client: %s\n", o.sends(server), f)
	if !f.gotListing() || f.address.Addr() != gateway {
		return fmt.Errorf("a server with a wrong address: %s; want the listing, and %s in the 227", f, gateway)
	}
	return nil
}

// freePorts returns two places of 127.0.0.1 where nobody listens at the moment.
func freePorts(h Host) (one, other string, err error) {
	var l [2]net.Listener
	for i := range l {
		if l[i], err = h.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", "", fmt.Errorf("a free ftpclient.PORT: %w", err)
		}
		defer l[i].Close()
	}
	return l[0].Addr().String(), l[1].Addr().String(), nil
}
