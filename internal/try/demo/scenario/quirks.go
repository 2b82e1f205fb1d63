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

	"ftpgate/internal/try/demo/ftpclient"
	"ftpgate/internal/try/demo/quirk"
	"ftpgate/internal/try/demo/sessionlog"
)

// quirkListing is what the server with quirks hands out.
const quirkListing = "-rw-r--r-- 1 ftp ftp           46 Oct  2  2023 README\r\n"

// quirkCase is something that a server does, and what that does to kernel tracking.
type quirkCase struct {
	quirk  quirk.Quirk
	title  string
	stalls bool // the kernel drops a part of the answer for good; else it passes the answer on as it is
}

func quirkCases() []quirkCase {
	return []quirkCase{
		{quirk.TwoSegments, "a 227 in two segments", true},
		{quirk.OneSegment, "200 and 227 in one segment", false},
		{quirk.PartialLine, "a 227 behind half a line", false},
		{quirk.Foreign, "a 227 with another address", false},
		{quirk.Unspecified, "a 227 with no address", false},
	}
}

// sends is how the server at own sends its answer, piece by piece and with any port.
func (o quirkCase) sends(own netip.Addr) string {
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

// quirkResult is what a client has met with that asked for a listing.
type quirkResult struct {
	noReplyFor     time.Duration  // no answer to PASV came for so long
	address        netip.AddrPort // what the 227 says
	dialErr        error          // why nobody could be reached there
	gatewayDialErr error          // and why not at the gateway's address in its place
	listing        string         // what came through
	err            error          // what ended the session otherwise
}

// gotListing tells whether the client has got what the server has to give.
func (f quirkResult) gotListing() bool { return f.err == nil && f.listing == quirkListing }

// compareTrackings has a client ask each question through kernel tracking and through proxy tracking, all at
// the same time, and tells what became of it.
func (s *scenario) compareTrackings(ctx context.Context) error {
	s.printHeading("Servers that the kernel's helper cannot follow")
	fmt.Fprint(s.out, "     The client goes where the 227 says; if nobody is there, to the gateway.\n")
	found, err := s.tryQuirks(ctx)
	errs := []error{err}
	server, gateway := netip.MustParseAddrPort(s.setup.quirkServer), netip.MustParseAddrPort(s.setup.proxyToQuirks).Addr()
	for i, o := range quirkCases() {
		kernel, proxy := found[i][0], found[i][1]
		fmt.Fprintf(s.out, "     %s\n", o.title)
		fmt.Fprintf(s.out, "       server: %s\n", o.sends(server.Addr()))
		fmt.Fprintf(s.out, "       kernel: %s\n", kernel)
		fmt.Fprintf(s.out, "       proxy:  %s\n", proxy)
		if !o.matches(kernel, server.Addr()) {
			errs = append(errs, fmt.Errorf("%s: with kernel tracking: %s; want %s", o.title, kernel, o.expected(server.Addr())))
		}
		if !proxy.gotListing() || proxy.address.Addr() != gateway {
			errs = append(errs, fmt.Errorf("%s: with proxy tracking: %s; want the listing, and %s in the 227", o.title, proxy, gateway))
		}
	}
	s.printQuirkTable(found, server.Addr())
	return errors.Join(errs...)
}

// matches tells whether the kernel has done what is told of it.
func (o quirkCase) matches(f quirkResult, own netip.Addr) bool {
	if o.stalls || f.err != nil {
		return f.noReplyFor > 0
	}
	return f.address.Addr() == o.quirk.Address(own) && f.dialErr != nil && errors.Is(f.gatewayDialErr, syscall.ECONNREFUSED)
}

// expected is what explains looks for, in words.
func (o quirkCase) expected(own netip.Addr) string {
	if o.stalls {
		return "no answer"
	}
	return fmt.Sprintf("%s in the 227, and no data", o.quirk.Address(own))
}

// tryQuirks returns what each oddity led to, with kernel and with proxy tracking.
func (s *scenario) tryQuirks(ctx context.Context) (found [][2]quirkResult, err error) {
	all := quirkCases()
	found = make([][2]quirkResult, len(all))
	stop, err := s.startQuirkServer(ctx)
	if err != nil {
		return found, err
	}
	var clients sync.WaitGroup
	for i, o := range all {
		for side, at := range []string{s.setup.kernelToQuirks, s.setup.proxyToQuirks} {
			patience := sessionTimeout
			if o.stalls && side == 0 {
				patience = s.setup.replyTimeout
			}
			clients.Go(func() { found[i][side] = s.tryQuirk(ctx, at, o.quirk, patience) })
		}
	}
	clients.Wait()
	return found, stop()
}

// startQuirkServer starts the server with quirks in this process; stop ends it and waits for it.
func (s *scenario) startQuirkServer(ctx context.Context) (stop func() error, err error) {
	h := s.testbed.ServerHost()
	l, err := h.Listen("tcp", s.setup.quirkServer)
	if err != nil {
		return nil, fmt.Errorf("start the server with quirks: %w", err)
	}
	s.setup.quirkServer = l.Addr().String()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	server := &quirk.Server{Listen: h.Listen, Listing: quirkListing}
	go func() { ended <- server.Serve(ctx, l) }()
	return func() error {
		cancel()
		return <-ended
	}, nil
}

// tryQuirk asks for a listing as the user of a quirk, and stops waiting for the 227 when patience is over.
func (s *scenario) tryQuirk(ctx context.Context, at string, q quirk.Quirk, patience time.Duration) (f quirkResult) {
	ctx, cancel := context.WithTimeoutCause(ctx, sessionTimeout, fmt.Errorf("the session has not ended within %s", sessionTimeout))
	defer cancel()
	c, err := s.connect(ctx, s.testbed.ClientHost(), at, string(q), nil)
	if err != nil {
		f.err = err
		return f
	}
	defer c.Close()
	r, err := c.AskPASV(ctx, q == quirk.OneSegment, patience)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.noReplyFor = patience
		return f
	case err == nil:
		f.address, err = c.Place(ftpclient.PASV, r)
	}
	if f.err = err; err == nil {
		f.err = s.followReply(ctx, c, &f)
	}
	return f
}

// followReply goes where the 227 says, and for the listing if somebody is there. Where nobody is, it looks
// whether a client that repairs the address would find somebody.
func (s *scenario) followReply(ctx context.Context, c *ftpclient.Client, f *quirkResult) error {
	conn, err := s.testbed.ClientHost().Dial(ctx, "tcp", f.address.String())
	if err == nil {
		listing, err := c.ListOver(ctx, conn)
		f.listing = string(listing)
		return err
	}
	f.dialErr = err
	conn, f.gatewayDialErr = s.testbed.ClientHost().Dial(ctx, "tcp", netip.AddrPortFrom(c.Peer().Addr(), f.address.Port()).String())
	if f.gatewayDialErr == nil {
		_ = conn.Close()
	}
	return nil
}

// String tells what the client has met with: the address in the 227, and what was there.
func (f quirkResult) String() string {
	switch {
	case f.err != nil:
		return sessionlog.Printable(f.err.Error())
	case f.noReplyFor > 0:
		return fmt.Sprintf("no answer within %s", f.noReplyFor)
	case f.dialErr != nil && f.gatewayDialErr != nil:
		return fmt.Sprintf("%s: %s; gateway: %s", f.address.Addr(), kernelError(f.dialErr), kernelError(f.gatewayDialErr))
	case f.dialErr != nil:
		return fmt.Sprintf("%s: %s; gateway: a connection", f.address.Addr(), kernelError(f.dialErr))
	case !f.gotListing():
		return fmt.Sprintf("%s: %d bytes came that are not the listing", f.address.Addr(), len(f.listing))
	}
	return fmt.Sprintf("%s: the listing came, %d bytes as the server sent them", f.address.Addr(), len(f.listing))
}

// kernelError is the kernel's word for why a connection failed.
func kernelError(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// printQuirkTable writes the two trackings beside each other, in 80 columns.
func (s *scenario) printQuirkTable(found [][2]quirkResult, own netip.Addr) {
	const format = "%-28s %-34s %s\n"
	fmt.Fprint(s.out, "\n")
	printHeader(s.out, format, "the server sends", "kernel tracking", "proxy tracking")
	for i, o := range quirkCases() {
		fmt.Fprintf(s.out, format, o.title, found[i][0].cell(own), found[i][1].cell(own))
	}
}

// cell is what a table says of it; own is the address that no client should be told.
func (f quirkResult) cell(own netip.Addr) string {
	switch {
	case f.err != nil:
		return failedCell
	case f.gotListing():
		return "works"
	case f.noReplyFor > 0:
		return "stalls"
	case f.dialErr == nil:
		return "wrong data"
	case f.address.Addr() == own:
		return fmt.Sprintf("leaks %s, no data", own)
	}
	return fmt.Sprintf("says %s, no data", f.address.Addr())
}
