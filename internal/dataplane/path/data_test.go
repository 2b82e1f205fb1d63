package path

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relay"
	"ftpgate/internal/dataplane/relaytest"
)

// The outcome of what the kernel carries is what the watcher has counted; it is complete, whatever that says.
func TestMetered(t *testing.T) {
	s := newStage(t)
	data, _ := s.open(passive())
	if o := data.Outcome(); !reflect.DeepEqual(o, pinhole.Outcome{Path: forward.DataKernel, Counted: true,
		FinishReturnsNow: true, Complete: true}) {
		t.Errorf("got %+v; want nothing so far", o)
	}
	fault := verdict.Fault{Code: verdict.CodeServerDataUnreachable, Err: "connection refused"}
	counted := &s.flow.outcome
	counted.Connected, counted.Up, counted.Down, counted.Over = time.Unix(1, 0), 3, 4, true
	counted.UnexpectedPeer = netip.MustParseAddr("192.168.5.9")
	counted.Failure = &pinhole.Failure{Err: errors.New("refused"), Fault: fault}
	data.Sever()
	data.Finish(nil)
	o := data.Outcome()
	if o.Up != 3 || o.Down != 4 || !o.Over || !o.Complete || !o.Connected.Equal(time.Unix(1, 0)) ||
		o.UnexpectedPeer != s.flow.outcome.UnexpectedPeer || o.Failure == nil || o.Failure.Fault != fault ||
		o.Failure.Reason != "" {
		t.Errorf("got %+v; want what the watcher knows", o)
	}
	if closed := data.Close(); closed.Down != 4 || s.flow.severed != 1 ||
		!slices.Equal(s.flow.released, []bool{true}) {
		t.Errorf("got %+v, severed %d times, released %v; want it severed and released as used",
			closed, s.flow.severed, s.flow.released)
	}
	unused, _ := s.open(passive())
	unused.Close()
	if !slices.Equal(s.flow.released, []bool{false}) {
		t.Errorf("got released %v; want unused", s.flow.released)
	}
}

// A pinhole lives as long as a transfer waits for its connection, where the kernel reports that it came.
func TestMeteredUse(t *testing.T) {
	s := newStage(t)
	data, listen := s.open(passive())
	data.Use() // before Arm: nothing
	if s.tables.kept != nil {
		t.Error("got it kept; want it armed first")
	}
	if err := data.Arm(); err != nil {
		t.Fatal(err)
	}
	data.Use()
	p := passive()
	p.Listen = listen
	wanted := s.tables.kept[p]
	if wanted == nil || !wanted() {
		t.Fatal("got it not wanted; want it kept until its connection comes")
	}
	if data.Unuse(); wanted() {
		t.Error("got it wanted; want it to end, because the server refused the transfer")
	}
	if data.Use(); !s.tables.kept[p]() {
		t.Error("got it not wanted; want it kept for the next transfer")
	}
	wanted = s.tables.kept[p]
	s.flow.outcome.Connected = time.Unix(1, 0)
	if wanted() {
		t.Error("got it wanted after its connection has come")
	}
	data.Close()
	s.tables.kept = nil
	data.Use() // after Close: nothing
	s.counts = false
	data, _ = s.open(passive())
	defer data.Close()
	if err := data.Arm(); err != nil {
		t.Fatal(err)
	}
	if data.Use(); s.tables.kept != nil {
		t.Error("got it kept; want its usual time, because nothing counts")
	}
}

// Where nothing counts, the outcome says so.
func TestNotMetered(t *testing.T) {
	s := newStage(t)
	s.counts = false
	data, _ := s.open(passive())
	data.Sever()
	want := pinhole.Outcome{Path: forward.DataKernel, FinishReturnsNow: true, Complete: true}
	data.Finish(nil)
	for _, o := range []pinhole.Outcome{data.Outcome(), data.Close()} {
		if o != want {
			t.Errorf("got %+v; want %+v", o, want)
		}
	}
}

// activeStage is an active pinhole on the loopback: the test is the server, which connects, and the client,
// which listens.
type activeStage struct {
	*stage
	client *net.TCPListener
	path   *relay.Opener
	data   *earlyAccept
	listen netip.AddrPort
}

// activeWaitTime is how long the relay waits for the server where no transfer does.
const activeWaitTime = 300 * time.Millisecond

func newActiveStage(t *testing.T, counts bool) *activeStage {
	s := &activeStage{stage: newStage(t), client: relaytest.Listen(t, relaytest.Server)}
	s.counts = counts
	p := onLoopback(s.client)
	p.Active = true
	opened, err := s.kernel.Load().Open(relaytest.FreePorts(t, 1), p)
	if err != nil {
		t.Fatal(err)
	}
	p.Listen = opened.Listen()
	s.path = &relay.Opener{Relay: s.relay, Ports: relaytest.FreePorts(t, 2), WaitTime: activeWaitTime}
	if s.data, err = acceptEarly(t.Context(), s.path, nil, metered{opened, s.expect(p)}, p); err != nil {
		t.Fatal(err)
	}
	s.listen = p.Listen
	t.Cleanup(func() { s.data.Close() })
	return s
}

// A server that connects before it accepts PORT is kept waiting, and then relayed.
func TestEarlyAcceptRelays(t *testing.T) {
	s := newActiveStage(t, true)
	server := relaytest.Dial(t, relaytest.Peer, s.listen)
	if err := s.data.Arm(); err != nil {
		t.Fatal(err)
	}
	client := relaytest.Accept(t, s.client)
	if _, err := io.WriteString(server, "a file"); err != nil {
		t.Fatal(err)
	}
	server.Close()
	relaytest.WantData(t, "client", client, []byte("a file"))
	client.Close()
	s.data.Finish(nil)
	o := s.data.Outcome()
	if o.Path != forward.DataRelay || o.Down != 6 || o.Up != 0 || !o.Complete || o.Connected.IsZero() {
		t.Errorf("got %+v; want 6 bytes down by the relay", o)
	}
	if s.data.Close(); len(s.tables.pinholes) != 0 {
		t.Errorf("got %v in the kernel; want nothing", s.tables.pinholes)
	}
}

// If no server has connected until Arm, the kernel has the pinhole and the relay has released the port.
func TestEarlyAcceptArmsTheKernel(t *testing.T) {
	for _, counts := range []bool{true, false} {
		s := newActiveStage(t, counts)
		if err := s.data.Arm(); err != nil {
			t.Fatal(err)
		}
		p := onLoopback(s.client)
		p.Listen, p.Active = s.listen, true
		if s.tables.open(p) != 1 {
			t.Errorf("got %v in the kernel; want %s", s.tables.pinholes, p)
		}
		if counts && s.flow.forgotten != 1 {
			t.Error("an earlier connection is not forgotten; want the server's port to be free")
		}
		relaytest.WantRefused(t, s.listen)
		s.data.Finish(nil)
		o := s.data.Outcome()
		if o.Path != forward.DataKernel || !o.FinishReturnsNow || !o.Complete || o.Counted != counts ||
			o.Over {
			t.Errorf("counts %t: got %+v; want it counted only where something counts", counts, o)
		}
		if s.data.Close(); s.tables.open(p) != 0 || len(s.tables.later) != 1 {
			t.Errorf("got %v in the kernel, %v removed later; want it removed later", s.tables.pinholes,
				s.tables.later)
		}
	}
}

// Where the client remembers an earlier connection from the server's port, the relay carries the next one.
func TestEarlyAcceptOfARememberedPort(t *testing.T) {
	s := newActiveStage(t, true)
	s.flow.remembered = true
	if err := s.data.Arm(); err != nil {
		t.Fatal(err)
	}
	if len(s.tables.pinholes) != 0 {
		t.Errorf("got %v in the kernel; want nothing", s.tables.pinholes)
	}
	relaytest.Dial(t, relaytest.Peer, s.listen)
	relaytest.Accept(t, s.client)
	if o := s.data.Close(); o.Path != forward.DataRelay || o.Connected.IsZero() {
		t.Errorf("got %+v; want it connected by the relay", o)
	}
}

// What the relay carries waits as long as a transfer does, as over the kernel.
func TestEarlyAcceptWaitsForItsTransfer(t *testing.T) {
	s := newActiveStage(t, true)
	s.flow.remembered = true
	if err := s.data.Arm(); err != nil {
		t.Fatal(err)
	}
	s.data.Use()
	unused, err := s.path.Open(t.Context(), onLoopback(s.client), dataplane.DataTLS{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unused.Arm(); err != nil {
		t.Fatal(err)
	}
	<-unused.Done()
	relaytest.Dial(t, relaytest.Peer, s.listen)
	relaytest.Accept(t, s.client)
}

// policy is an error as package tlskeys returns it.
type policy struct {
	error
	code verdict.Code
}

func (policy) Reason() string       { return "the TLS session was not resumed" }
func (policy) Remedy() string       { return "set tls.client_reuse" }
func (p policy) Code() verdict.Code { return p.code }

// Each way in which the relay's transfers end is said in the words of the client, the operator and the
// session.
func TestRelayFailure(t *testing.T) {
	far := netip.MustParseAddrPort("203.0.113.21:40000")
	refused := func(side relay.Side) error {
		return &relay.DialError{Side: side, To: far,
			Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}
	}
	resumption := policy{errors.New("not resumed"), verdict.CodeSessionReuseMissing}
	certificate := policy{errors.New("another one"), verdict.CodeClientCertificate}
	reset := func(side relay.Side) error { return &relay.BrokenError{Side: side, Err: unix.ECONNRESET} }
	for _, tt := range []struct {
		name       string
		err        error
		code       verdict.Code
		reply      int
		said, text string // of the fault, and its error
		remedy     bool
	}{
		{"closed", fmt.Errorf("wait: %w", relay.ErrClosed), "", 0, "", "", false},
		{"server refuses", refused(relay.Server), verdict.CodeServerDataUnreachable, 0, "",
			"connect: connection refused", false},
		{"client refuses", refused(relay.Client), verdict.CodeClientDataUnreachable, 0, "",
			"connect: connection refused", false},
		{"client without TLS", &relay.HandshakeError{Side: relay.Client, Err: io.EOF},
			verdict.CodeClientNoDataTLS, 522,
			"the client closed the data connection before its TLS handshake was done", "EOF", false},
		{"client without resumption", &relay.HandshakeError{Side: relay.Client, Err: resumption},
			verdict.CodeSessionReuseMissing, 522, "the TLS session was not resumed", "not resumed", true},
		{"client with another certificate", &relay.HandshakeError{Side: relay.Client, Err: certificate},
			verdict.CodeClientCertificate, 522, "the TLS session was not resumed", "another one", true},
		{"server's handshake", &relay.HandshakeError{Side: relay.Server, Err: resumption},
			verdict.CodeServerDataTLS, 522, "the TLS session was not resumed", "not resumed", true},
		{"truncated", &relay.BrokenError{Side: relay.Client, Err: &relay.TruncatedError{Side: relay.Client}},
			verdict.CodeTruncated, 426,
			"the client's data ended without TLS's close_notify, it may be cut short", "", true},
		{"client's reset", reset(relay.Client), verdict.CodeDataBroken, 0, "the client broke it",
			"connection reset by peer", false},
		{"server's reset", reset(relay.Server), verdict.CodeDataBroken, 0, "the server broke it",
			"connection reset by peer", false},
		{"anything else", errors.New("out of memory"), verdict.CodeDataBroken, 0, "", "out of memory",
			false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := relayFailure(tt.err)
			if f.Fault.Code != tt.code || f.ReplyCode != tt.reply || f.Fault.Reason != tt.said ||
				f.Fault.Err != tt.text {
				t.Errorf("got %+v; want %s, reply %d, %q, %q", f, tt.code, tt.reply, tt.said, tt.text)
			}
			if (f.Reason != "") != (tt.reply != 0) || (f.Remedy != "") != tt.remedy ||
				f.Fault.Remedy != f.Remedy {
				t.Errorf("got %+v; want words with the reply, and a remedy: %t", f, tt.remedy)
			}
			if !errors.Is(f, tt.err) {
				t.Errorf("got cause %v; want %v", f.Err, tt.err)
			}
		})
	}
	if f := relayFailure(nil); f != nil {
		t.Errorf("got %+v for no error; want nil", f)
	}
}

// An established connection closes its pinhole; a severed one must not find it open.
func TestMeteredClosesItsPinhole(t *testing.T) {
	s := newStage(t)
	for name, act := range map[string]func(data dataplane.Data){
		"complete": func(dataplane.Data) { s.flow.complete() },
		"severed":  func(data dataplane.Data) { data.Sever() },
	} {
		data, _ := s.open(passive())
		if err := data.Arm(); err != nil {
			t.Fatal(err)
		}
		openAtSever := -1
		p := s.flow.expected
		s.flow.onSever = func() { openAtSever = s.tables.open(p) }
		if act(data); s.tables.open(p) != 0 || openAtSever > 0 {
			t.Errorf("%s: got pinholes %v, %d at Sever; want it closed", name, s.tables.pinholes, openAtSever)
		}
		data.Use()
		if data.Unuse(); s.flow.kept {
			t.Errorf("%s: got it kept; want that taken back", name)
		}
		data.Close()
	}
}
