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

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/quirk"
)

const relayPrologue = `
  client ------------- gateway ------------ server

All three are this program, on this machine's loopback. None has a privilege,
and the gateway copies what the kernel would translate.
`

// TellRelay plays the one act that needs no lab.
func TellRelay(ctx context.Context, out io.Writer, st Stage, c Cast) (told error) {
	begin := time.Now()
	s := &story{out: out, stage: st, cast: c, prompt: "gateway$ "}
	fmt.Fprint(out, relayPrologue)
	server, err := st.StartServer(ctx, c.server, InClear)
	if err != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, err))
	}
	defer func() { told = errors.Join(told, server.Stop()) }()
	s.witness, s.cast.server = server.Witness, server.At
	stop, err := s.startQuirks(ctx)
	if err != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, err))
	}
	defer func() { _ = stop() }() // its sessions are over
	if s.cast.listen, s.cast.byProxy, err = freePorts(st.ClientHost()); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	a := act{
		title: "The relay",
		text: `ftpgate takes the data connections itself, at ports of its own, and copies
them. It is what it does where it may not program the kernel.`,
		forwards: [][]string{
			{"--data", "relay", s.cast.listen, s.cast.server},
			{"--data", "relay", s.cast.byProxy, s.cast.quirks},
		},
		play:   (*story).throughRelay,
		remedy: "It needs ports of 127.0.0.1 that are free.",
	}
	var faults []error
	if err := s.perform(ctx, a); err != nil {
		faults = append(faults, fmt.Errorf("demo: %s: %w", a.title, err))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, errors.Join(faults...)))
	}
	s.printTable("data path")
	return s.end(begin, faults)
}

// throughRelay shows a session, then every mode, how fast it is, and a server that says a wrong address.
func (s *story) throughRelay(ctx context.Context) error {
	s.scene("PASV: the client is told a port of the gateway")
	shown := visit{way: "relay", how: "PASV, as shown", at: s.cast.listen, witness: s.witness}
	if err := s.session(ctx, shown, s.listing(ftpclient.PASV), s.toldOther); err != nil {
		return err
	}
	s.scene("Every mode: a listing, a download and an upload each")
	if err := s.everything(ctx, visit{way: "relay", at: s.cast.listen}, ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT, ftpclient.EPRT); err != nil {
		return err
	}
	s.scene("A large file through the relay, and without a gateway")
	fmt.Fprint(s.out, "     Two programs share the processors without it, and three with it.\n")
	if err := s.compare(ctx); err != nil {
		return err
	}
	return s.wrongAddress(ctx)
}

// rounds is how often a download is measured: the machine has other things to do, too.
const rounds = 5

// compare measures downloads through the relay and without it in turn, and tells the medians.
func (s *story) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sessionLimit, fmt.Errorf("the downloads have not ended within %s", sessionLimit))
	defer cancel()
	var clients [2]*ftpclient.Client
	for i, at := range []string{s.cast.listen, s.cast.server} {
		c, err := s.enter(ctx, s.stage.ClientHost(), at, ftpserver.User, nil)
		if err != nil {
			return fmt.Errorf("download from %s: %w", at, err)
		}
		defer c.Close()
		clients[i] = c
	}
	var rates [2][]float64 // in MiB/s
	buf := make([]byte, len(s.cast.download))
	for range rounds {
		for i, c := range clients {
			took, err := c.Retrieve(ctx, ftpclient.PASV, downloadName, buf)
			if err == nil && !bytes.Equal(buf, s.cast.download) {
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

// toldOther looks at the last 227: the client was told another place than the server's.
func (s *story) toldOther(_ context.Context, p *performance) error {
	gateway := netip.MustParseAddrPort(s.cast.listen).Addr()
	if p.script.Told.Addr() != gateway || p.script.Told == p.script.Announced {
		return fmt.Errorf("227: the server said %s and the client was told %s; want a port of the gateway at %s",
			p.script.Announced, p.script.Told, gateway)
	}
	return nil
}

// wrongAddress has a listing of a server that announces an address where it is not.
func (s *story) wrongAddress(ctx context.Context) error {
	s.scene("A server that says an address of somewhere else")
	o := oddity{quirk: quirk.Foreign}
	server, gateway := netip.MustParseAddrPort(s.cast.quirks).Addr(), netip.MustParseAddrPort(s.cast.byProxy).Addr()
	f := s.try(ctx, s.cast.byProxy, o.quirk, sessionLimit)
	fmt.Fprintf(s.out, "     server: %s\n     client: %s\n", o.shape(server), f)
	if !f.served() || f.told.Addr() != gateway {
		return fmt.Errorf("a server with a wrong address: %s; want the listing, and %s in the 227", f, gateway)
	}
	return nil
}

// freePorts returns two places of 127.0.0.1 where nobody listens at the moment.
func freePorts(h Host) (one, other string, err error) {
	var l [2]net.Listener
	for i := range l {
		if l[i], err = h.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", "", fmt.Errorf("a free port: %w", err)
		}
		defer l[i].Close()
	}
	return l[0].Addr().String(), l[1].Addr().String(), nil
}
