package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/quirk"
	"ftpgate/internal/try/demo/transcript"
)

// quirksListing is what the server with quirks hands out.
const quirksListing = "-rw-r--r-- 1 ftp ftp           46 Oct  2  2023 README\r\n"

// oddity is something that a server does, and what that does to kernel tracking.
type oddity struct {
	quirk  quirk.Quirk
	title  string
	stalls bool // the kernel drops a part of the answer for good; else it passes the answer on as it is
}

func oddities() []oddity {
	return []oddity{
		{quirk.TwoSegments, "a 227 in two segments", true},
		{quirk.OneSegment, "200 and 227 in one segment", false},
		{quirk.PartialLine, "a 227 behind half a line", false},
		{quirk.Foreign, "a 227 with another address", false},
		{quirk.Unspecified, "a 227 with no address", false},
	}
}

// shape is how the server at own sends its answer, piece by piece and with any port.
func (o oddity) shape(own netip.Addr) string {
	const port, shown = 1<<8 | 1, "1,1)"
	segments := o.quirk.Segments(netip.AddrPortFrom(own, port))
	if o.quirk == quirk.OneSegment {
		segments[0] = "200 ok\r\n" + segments[0]
	}
	for i, segment := range segments {
		segments[i] = fmt.Sprintf("%q", strings.Replace(segment, shown, "p,p)", 1))
	}
	return strings.Join(segments, " ")
}

// finding is what a client has met with that asked for a listing.
type finding struct {
	stalled  time.Duration  // no answer to PASV came for so long
	told     netip.AddrPort // what the 227 says
	reached  error          // why nobody could be reached there
	repaired error          // and why not at the gateway's address in its place
	listing  string         // what came through
	broken   error          // what ended the session otherwise
}

// served tells whether the client has got what the server has to give.
func (f finding) served() bool { return f.broken == nil && f.listing == quirksListing }

// sideBySide has a client ask each question through kernel tracking and through proxy tracking, all at
// the same time, and tells what became of it.
func (s *story) sideBySide(ctx context.Context) error {
	s.scene("Servers that the kernel's helper cannot follow")
	fmt.Fprint(s.out, "     The client goes where the 227 says; if nobody is there, to the gateway.\n")
	found, err := s.tryAll(ctx)
	errs := []error{err}
	server, gateway := netip.MustParseAddrPort(s.cast.quirks), netip.MustParseAddrPort(s.cast.byProxy).Addr()
	for i, o := range oddities() {
		kernel, proxy := found[i][0], found[i][1]
		fmt.Fprintf(s.out, "     %s\n", o.title)
		fmt.Fprintf(s.out, "       server: %s\n", o.shape(server.Addr()))
		fmt.Fprintf(s.out, "       kernel: %s\n", kernel)
		fmt.Fprintf(s.out, "       proxy:  %s\n", proxy)
		if !o.explains(kernel, server.Addr()) {
			errs = append(errs, fmt.Errorf("%s: with kernel tracking: %s; want %s", o.title, kernel, o.want(server.Addr())))
		}
		if !proxy.served() || proxy.told.Addr() != gateway {
			errs = append(errs, fmt.Errorf("%s: with proxy tracking: %s; want the listing, and %s in the 227", o.title, proxy, gateway))
		}
	}
	s.printSides(found, server.Addr())
	return errors.Join(errs...)
}

// explains tells whether the kernel has done what is told of it.
func (o oddity) explains(f finding, own netip.Addr) bool {
	if o.stalls || f.broken != nil {
		return f.stalled > 0
	}
	return f.told.Addr() == o.quirk.Announced(own) && f.reached != nil && errors.Is(f.repaired, syscall.ECONNREFUSED)
}

// want is what explains looks for, in words.
func (o oddity) want(own netip.Addr) string {
	if o.stalls {
		return "no answer"
	}
	return fmt.Sprintf("%s in the 227, and no data", o.quirk.Announced(own))
}

// tryAll returns what each oddity led to, with kernel and with proxy tracking.
func (s *story) tryAll(ctx context.Context) (found [][2]finding, err error) {
	all := oddities()
	found = make([][2]finding, len(all))
	stop, err := s.startQuirks(ctx)
	if err != nil {
		return found, err
	}
	var clients sync.WaitGroup
	for i, o := range all {
		for side, at := range []string{s.cast.byKernel, s.cast.byProxy} {
			patience := sessionLimit
			if o.stalls && side == 0 {
				patience = s.cast.patience
			}
			clients.Go(func() { found[i][side] = s.try(ctx, at, o.quirk, patience) })
		}
	}
	clients.Wait()
	return found, stop()
}

// startQuirks starts the server with quirks in this process; stop ends it and waits for it.
func (s *story) startQuirks(ctx context.Context) (stop func() error, err error) {
	h := s.stage.ServerHost()
	l, err := h.Listen("tcp", s.cast.quirks)
	if err != nil {
		return nil, fmt.Errorf("start the server with quirks: %w", err)
	}
	s.cast.quirks = l.Addr().String()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	server := &quirk.Server{Listen: h.Listen, Listing: quirksListing}
	go func() { ended <- server.Serve(ctx, l) }()
	return func() error {
		cancel()
		return <-ended
	}, nil
}

// try asks for a listing as the user of a quirk, and stops waiting for the 227 when patience is over.
func (s *story) try(ctx context.Context, at string, q quirk.Quirk, patience time.Duration) (f finding) {
	ctx, cancel := context.WithTimeoutCause(ctx, sessionLimit, fmt.Errorf("the session has not ended within %s", sessionLimit))
	defer cancel()
	c, err := s.enter(ctx, s.stage.ClientHost(), at, string(q), nil)
	if err != nil {
		f.broken = err
		return f
	}
	defer c.Close()
	r, err := c.AskPASV(ctx, q == quirk.OneSegment, patience)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.stalled = patience
		return f
	case err == nil:
		f.told, err = c.Place(ftpclient.PASV, r)
	}
	if f.broken = err; err == nil {
		f.broken = s.follow(ctx, c, &f)
	}
	return f
}

// follow goes where the 227 says, and for the listing if somebody is there. Where nobody is, it looks
// whether a client that repairs the address would find somebody.
func (s *story) follow(ctx context.Context, c *ftpclient.Client, f *finding) error {
	conn, err := s.stage.ClientHost().Dial(ctx, "tcp", f.told.String())
	if err == nil {
		listing, err := c.ListOver(ctx, conn)
		f.listing = string(listing)
		return err
	}
	f.reached = err
	conn, f.repaired = s.stage.ClientHost().Dial(ctx, "tcp", netip.AddrPortFrom(c.Peer().Addr(), f.told.Port()).String())
	if f.repaired == nil {
		_ = conn.Close()
	}
	return nil
}

// String tells what the client has met with: the address in the 227, and what was there.
func (f finding) String() string {
	switch {
	case f.broken != nil:
		return transcript.Printable(f.broken.Error())
	case f.stalled > 0:
		return fmt.Sprintf("no answer within %s", f.stalled)
	case f.reached != nil && f.repaired != nil:
		return fmt.Sprintf("%s: %s; gateway: %s", f.told.Addr(), reason(f.reached), reason(f.repaired))
	case f.reached != nil:
		return fmt.Sprintf("%s: %s; gateway: a connection", f.told.Addr(), reason(f.reached))
	case !f.served():
		return fmt.Sprintf("%s: %d bytes came that are not the listing", f.told.Addr(), len(f.listing))
	}
	return fmt.Sprintf("%s: the listing came, %d bytes as the server sent them", f.told.Addr(), len(f.listing))
}

// reason is the kernel's word for why a connection failed.
func reason(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// printSides writes the two trackings beside each other, in 80 columns.
func (s *story) printSides(found [][2]finding, own netip.Addr) {
	const format = "%-28s %-34s %s\n"
	fmt.Fprint(s.out, "\n")
	heads(s.out, format, "the server sends", "kernel tracking", "proxy tracking")
	for i, o := range oddities() {
		fmt.Fprintf(s.out, format, o.title, found[i][0].cell(own), found[i][1].cell(own))
	}
}

// cell is what a table says of it; own is the address that no client should be told.
func (f finding) cell(own netip.Addr) string {
	switch {
	case f.broken != nil:
		return failedCell
	case f.served():
		return "works"
	case f.stalled > 0:
		return "stalls"
	case f.reached == nil:
		return "wrong data"
	case f.told.Addr() == own:
		return fmt.Sprintf("leaks %s, no data", own)
	}
	return fmt.Sprintf("says %s, no data", f.told.Addr())
}
