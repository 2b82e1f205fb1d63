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
	"ftpgate/internal/try/demo/sessionlog"
)

// quirkListing is the listing of the server with quirks.
const quirkListing = "-rw-r--r-- 1 ftp ftp           46 Oct  2  2023 README\r\n"

// quirkCase is a quirk of a server, and its effect on kernel tracking.
type quirkCase struct {
	quirk  quirk.Quirk
	title  string
	stalls bool // the kernel drops a part of the reply for good; else it passes the reply on unchanged
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

// sends describes the segments in which the server at own sends its reply to PASV.
func (qc quirkCase) sends(own netip.Addr) string {
	const port, portText = 1<<8 | 1, "1,1)" // printed as p,p
	segments := qc.quirk.Segments(netip.AddrPortFrom(own, port))
	if qc.quirk == quirk.OneSegment {
		segments[0] = "200 ok\r\n" + segments[0]
	}
	for i, segment := range segments {
		segments[i] = fmt.Sprintf("%q", strings.Replace(segment, portText, "p,p)", 1))
	}
	return strings.Join(segments, " ")
}

// quirkResult is the result of a client that asked for a listing.
type quirkResult struct {
	noReplyFor     time.Duration  // how long no reply to PASV came
	address        netip.AddrPort // address in the 227
	dialErr        error          // why the client could not connect to it
	gatewayDialErr error          // and why not to the same port of the gateway
	listing        string         // listing that the client received
	err            error          // any other error that ended the session
}

// gotListing reports whether the client received the whole listing.
func (r quirkResult) gotListing() bool { return r.err == nil && r.listing == quirkListing }

// compareTrackings tries each quirk with kernel tracking and with proxy tracking, all at the same time, and
// prints the results.
func (s *scenario) compareTrackings(ctx context.Context) error {
	s.printHeading("Servers that the kernel's helper cannot follow")
	fmt.Fprint(s.out, "     The client connects to the address in the 227, and if that fails to the\n"+
		"     same port of the gateway.\n")
	results, err := s.tryQuirks(ctx)
	errs := []error{err}
	server := netip.MustParseAddrPort(s.setup.quirkServer)
	gateway := netip.MustParseAddrPort(s.setup.proxyToQuirks).Addr()
	for i, qc := range quirkCases() {
		kernel, proxy := results[i][0], results[i][1]
		fmt.Fprintf(s.out, "     %s\n", qc.title)
		fmt.Fprintf(s.out, "       server: %s\n", qc.sends(server.Addr()))
		fmt.Fprintf(s.out, "       kernel: %s\n", kernel)
		fmt.Fprintf(s.out, "       proxy:  %s\n", proxy)
		if !qc.matches(kernel, server.Addr()) {
			err := fmt.Errorf("%s: with kernel tracking: %s; want %s", qc.title, kernel,
				qc.expected(server.Addr()))
			errs = append(errs, err)
		}
		if !proxy.gotListing() || proxy.address.Addr() != gateway {
			err := fmt.Errorf("%s: with proxy tracking: %s; want the listing, and %s in the 227",
				qc.title, proxy, gateway)
			errs = append(errs, err)
		}
	}
	s.comparison = quirkTable(results, server.Addr())
	return errors.Join(errs...)
}

// matches reports whether r is the expected result of kernel tracking.
func (qc quirkCase) matches(r quirkResult, own netip.Addr) bool {
	if qc.stalls || r.err != nil {
		return r.noReplyFor > 0
	}
	return r.address.Addr() == qc.quirk.Address(own) && r.dialErr != nil &&
		errors.Is(r.gatewayDialErr, syscall.ECONNREFUSED)
}

// expected describes the result that matches accepts.
func (qc quirkCase) expected(own netip.Addr) string {
	if qc.stalls {
		return "no reply"
	}
	return fmt.Sprintf("%s in the 227, and no data", qc.quirk.Address(own))
}

// tryQuirks returns the results of each case, with kernel tracking and with proxy tracking.
func (s *scenario) tryQuirks(ctx context.Context) (results [][2]quirkResult, err error) {
	cases := quirkCases()
	results = make([][2]quirkResult, len(cases))
	stop, err := s.startQuirkServer(ctx)
	if err != nil {
		return results, err
	}
	var clients sync.WaitGroup
	for i, qc := range cases {
		for side, address := range []string{s.setup.kernelToQuirks, s.setup.proxyToQuirks} {
			timeout := sessionTimeout
			if qc.stalls && side == 0 {
				timeout = s.setup.replyTimeout
			}
			clients.Go(func() { results[i][side] = s.tryQuirk(ctx, address, qc.quirk, timeout) })
		}
	}
	clients.Wait()
	return results, stop()
}

// startQuirkServer starts the server with quirks in this process. stop ends it and waits for it.
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

// tryQuirk gets a listing as the user of a quirk, and waits for the 227 until timeout.
func (s *scenario) tryQuirk(
	ctx context.Context, address string, q quirk.Quirk, timeout time.Duration,
) (r quirkResult) {
	ctx, cancel := withSessionTimeout(ctx)
	defer cancel()
	c, err := s.connect(ctx, s.testbed.ClientHost(), address, string(q), nil)
	if err != nil {
		r.err = err
		return r
	}
	defer c.Close()
	reply, err := c.AskPASV(ctx, q == quirk.OneSegment, timeout)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.noReplyFor = timeout
		return r
	case err == nil:
		r.address, err = c.Place(ftpclient.PASV, reply)
	}
	if r.err = err; err == nil {
		r.err = s.followReply(ctx, c, &r)
	}
	return r
}

// followReply connects to the address in the 227 and gets the listing. If it cannot connect, it tries whether
// a client that repairs the address could.
func (s *scenario) followReply(ctx context.Context, c *ftpclient.Client, r *quirkResult) error {
	conn, err := s.testbed.ClientHost().Dial(ctx, "tcp", r.address.String())
	if err == nil {
		listing, err := c.ListOver(ctx, conn)
		r.listing = string(listing)
		return err
	}
	r.dialErr = err
	repaired := netip.AddrPortFrom(c.Peer().Addr(), r.address.Port())
	conn, r.gatewayDialErr = s.testbed.ClientHost().Dial(ctx, "tcp", repaired.String())
	if r.gatewayDialErr == nil {
		_ = conn.Close()
	}
	return nil
}

// String describes the result: the address in the 227, and what the client found there.
func (r quirkResult) String() string {
	switch {
	case r.err != nil:
		return sessionlog.Printable(r.err.Error())
	case r.noReplyFor > 0:
		return fmt.Sprintf("no reply within %s", r.noReplyFor)
	case r.dialErr != nil && r.gatewayDialErr != nil:
		return fmt.Sprintf("%s: %s; gateway: %s", r.address.Addr(), kernelError(r.dialErr),
			kernelError(r.gatewayDialErr))
	case r.dialErr != nil:
		return fmt.Sprintf("%s: %s; gateway: a connection", r.address.Addr(), kernelError(r.dialErr))
	case !r.gotListing():
		return fmt.Sprintf("%s: %d bytes came that are not the listing", r.address.Addr(), len(r.listing))
	}
	return fmt.Sprintf("%s: the listing came, %d bytes as the server sent them", r.address.Addr(),
		len(r.listing))
}

// kernelError returns the kernel's reason for a failed connection.
func kernelError(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// quirkTable returns the results of both trackings side by side, in 80 columns.
func quirkTable(results [][2]quirkResult, own netip.Addr) string {
	const format = "%-28s %-34s %s\n"
	var b strings.Builder
	printHeader(&b, format, "the server sends", "kernel tracking", "proxy tracking")
	for i, qc := range quirkCases() {
		fmt.Fprintf(&b, format, qc.title, results[i][0].cell(own), results[i][1].cell(own))
	}
	return b.String()
}

// cell returns the text of a table cell. own is the server's address, which no client should receive.
func (r quirkResult) cell(own netip.Addr) string {
	switch {
	case r.err != nil:
		return failedCell
	case r.gotListing():
		return "works"
	case r.noReplyFor > 0:
		return "stalls"
	case r.dialErr == nil:
		return "wrong data"
	case r.address.Addr() == own:
		return fmt.Sprintf("leaks %s, no data", own)
	}
	return fmt.Sprintf("says %s, no data", r.address.Addr())
}
