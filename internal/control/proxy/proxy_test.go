package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

func TestSessionServerDown(t *testing.T) {
	b := newStage(t)
	b.servers.Close()
	c := b.dial()
	c.hear("421 cannot reach the server")
	c.heardAll()
	b.wantRefused("unreachable=1")
	if want := b.servers.Addr().String() +
		": connect: connection refused"; !strings.Contains(b.logs.String(), want) {
		t.Errorf("log: no %q in it: %s", want, b.logs)
	}
}

// others lets only other clients in than those of the test.
func others(_ *Proxy, f *forward.Resolved) {
	f.Clients = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
}

// Clients that are not allowed, or too many, get the reason.
func TestSessionLimits(t *testing.T) {
	b := newStage(t, limited(forward.Limits{PerClient: 1})).connect()
	c := b.dial()
	c.hear("421 too many sessions from your address")
	c.heardAll()
	b.wantRefused("limit=1")
	b.client.Close()
	b.server.heardAll()

	b = newStage(t, limited(forward.Limits{Sessions: 1})).connect()
	c = b.dial()
	c.hear("421 too many sessions, try again later")
	c.heardAll()

	b = newStage(t, others)
	c = b.dial()
	c.hear("421 this address may not use this gateway")
	c.heardAll()
	b.wantRefused("client=1")
}

// What a forward is, is asked with every session: a reload or a name's new address changes it.
func TestSessionAsksWhatTheForwardIs(t *testing.T) {
	b := newStage(t, others)
	c := b.dial()
	c.hear("421 this address may not use this gateway")
	b.change(func(f *forward.Resolved) { f.Clients = nil })
	b.connect()
}

// short is a limit that no step of a test comes near to, and that a test can wait for.
const short = time.Second

// A session whose time is up ends with a reason. A server that does not greet or answer is named as the
// reason, whatever its client has sent meanwhile.
func TestSessionTimes(t *testing.T) {
	for name, tt := range map[string]struct {
		limits forward.Limits
		begin  func(*stage)
		want   string
		kind   string
	}{
		"login": {forward.Limits{Login: short}, func(b *stage) { b.connect() },
			"421 no login within 1s", "time=1"},
		"idle": {forward.Limits{Idle: short}, func(b *stage) { b.connect().login() },
			"421 idle for 1s", "time=1"},
		"idle with a pinhole": {forward.Limits{Idle: short}, func(b *stage) { b.connect().login().pasv() },
			"421 idle for 1s", "time=1"},
		"no greeting": {forward.Limits{Login: short}, func(b *stage) {
			b.client = b.dial()
			b.accept()
			b.client.say("USER x\r\nPASS y\r\n")
		}, "421 the server does not answer", "unreachable=1"},
		"another protocol": {forward.Limits{Login: short}, func(b *stage) {
			b.client = b.dial()
			b.accept()
			b.server.say("SSH-2.0-server\r\n")
			b.client.hear("SSH-2.0-server")
		}, "421 the server's answer is not FTP", "bad_reply=1"},
		"no answer": {forward.Limits{Idle: short}, func(b *stage) {
			b.connect().login().client.say("NOOP\r\nNOOP\r\n")
		}, "421 the server does not answer", "unreachable=1"},
		"REIN begins the login anew": {forward.Limits{Login: short}, func(b *stage) {
			b.connect().login()
			<-time.After(short)
			b.ask("REIN", "220 as new").ask("NOOP", "200 ok")
		}, "421 no login within 1s", "time=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newStage(t, limited(tt.limits))
			tt.begin(b)
			b.client.hear(tt.want)
			b.client.heardAll()
			b.wantRefused(tt.kind)
		})
	}
}

// A byte every now and then is no login (security rule 12).
func TestSessionDribble(t *testing.T) {
	t.Parallel()
	b := newStage(t, limited(forward.Limits{Login: short})).connect()
	heard := make(chan string, 1)
	go func() {
		line, _ := b.client.lines.ReadString('\n')
		heard <- line
	}()
	tick := time.NewTicker(short / 50)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_, _ = b.client.Write([]byte("x")) // fails once the gateway has closed
			continue
		case line := <-heard:
			if want := "421 no login within 1s\r\n"; line != want {
				t.Errorf("got %q; want %q", line, want)
			}
		}
		return
	}
}

// A transfer that takes longer than the idle time continues (RFC 1123 section 4.1.3.2).
func TestSessionIdleNeverRunsInATransfer(t *testing.T) {
	t.Parallel()
	b := newStage(t, limited(forward.Limits{Idle: short})).connect().login()
	data := b.transfer()
	<-time.After(2 * short)
	b.server.say("226 done\r\n")
	<-data.held
	<-time.After(2 * short)
	close(data.done)
	b.client.hear("226 done")
	b.client.hear("421 idle for 1s")
}

// A client that never reads, and a server that does not, hold a session no longer than the write time.
func TestSessionPeerTakesNothing(t *testing.T) {
	t.Parallel()
	hasty := func(p *Proxy, _ *forward.Resolved) { p.longestWrite = short }
	b := newStage(t, hasty).connect().login()
	b.client.say("STAT\r\n")
	b.server.hear("STAT")
	b.server.say("211-status\r\n")
	line := []byte(" " + strings.Repeat("x", 1000) + "\r\n")
	for {
		if _, err := b.server.Write(line); err != nil {
			break // the gateway has closed the connection
		}
	}
	b.wantRefused("time=1")

	b = newStage(t, hasty).connect().login()
	if err := b.server.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	line = []byte("SITE " + strings.Repeat("x", 16_000) + "\r\n")
	for n := 1; n <= 2000; n++ {
		if _, err := b.client.Write(line); err != nil {
			break
		}
		b.await("the command", func() bool {
			return strings.Count(b.logs.String(), "what=SITE") == n ||
				strings.Contains(b.logs.String(), "session ends")
		})
		if _, err := b.server.Write([]byte("200 ok\r\n")); err != nil { // and reads nothing
			break
		}
	}
	b.await("the end", func() bool {
		return strings.Contains(b.logs.String(),
			"the server is not reading commands")
	})
}

// Failed logins are delayed and then end the session; the forward says after how many (RFC 2577 section 4).
func TestSessionFailedLogins(t *testing.T) {
	const delay = 30 * time.Millisecond
	b := newStage(t, limited(forward.Limits{LoginFailures: 3}),
		func(p *Proxy, _ *forward.Resolved) { p.loginDelay = delay }).connect()
	began := time.Now()
	b.ask("PASS a", "530 no")
	b.ask("PASS b", "530 no")
	b.ask("PASS c", "530 no")
	b.client.hear("421 too many failed logins")
	if took := time.Since(began); took < 3*delay { // the first two are answered at once
		t.Errorf("three failed logins took %s; want %s at least", took, 3*delay)
	}
	b.client.heardAll()
	b.wantRefused("login=3")

	b = newStage(t, func(p *Proxy, _ *forward.Resolved) { p.loginDelay = time.Hour }).connect()
	b.ask("PASS a", "530 no").ask("PASS b", "530 no") // at once
	b.client.say("PASS c\r\n")
	b.server.hear("PASS c")
	b.server.say("530 no\r\n")
	if err := b.client.CloseWrite(); err != nil { // the delay does not hold a client that sends no more
		t.Fatal(err)
	}
	b.client.hear("530 no")
	b.server.heardAll()
	b.wantRefused("login=3")
}

// To stop: idle sessions end with a reason, a transfer may finish, and aborted ends what does not.
func TestSessionDrains(t *testing.T) {
	b := newStage(t).connect().login()
	b.drain()
	b.client.hear("421 the gateway is shutting down")
	b.client.heardAll()
	b.finished()

	b = newStage(t).connect().login()
	data := b.transfer()
	idle := b.dial()
	c, err := b.servers.Accept()
	if err != nil {
		t.Fatal(err)
	}
	silent := newPeer(t, c) // has not greeted
	b.await("the second session", func() bool {
		return strings.Count(b.logs.String(),
			"session begins") == 2
	})
	b.drain()
	idle.hear("421 the gateway is shutting down")
	silent.heardAll()
	late := b.dial()
	late.hear("421 the gateway is shutting down")
	late.heardAll()
	b.server.say("226 done\r\n")
	<-data.held
	b.client.say("NOOP\r\n") // releases the 226
	b.client.hear("226 done")
	b.client.hear("421 the gateway is shutting down")
	b.client.heardAll()
	b.finished()
	if _, err := net.Dial("tcp", b.address); err == nil {
		t.Error("the listener is open after Serve")
	}
	b.wantRefused("drain=1")

	b = newStage(t).connect().login()
	data = b.transfer()
	b.server.say("226 done\r\n")
	<-data.held
	b.drain()
	b.abort()
	b.client.hear("421 the gateway is shutting down")
	<-data.closed
	b.finished()
}

// A client whose server is being dialled gets the reason, too.
func TestSessionDrainsWhileDialling(t *testing.T) {
	dialling := make(chan struct{})
	b := newStage(t, func(p *Proxy, _ *forward.Resolved) {
		p.dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			close(dialling)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	c := b.dial()
	<-dialling
	b.drain()
	c.hear("421 the gateway is shutting down")
	c.heardAll()
	b.finished()
}

// An operator ends a session whose server is being dialled.
func TestSessionKilledWhileDialling(t *testing.T) {
	j := sessions.New(time.Now())
	dialling := make(chan struct{})
	b := newStage(t, withJournal(j), func(p *Proxy, _ *forward.Resolved) {
		p.dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			close(dialling)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	c := b.dial()
	<-dialling
	id := slices.Collect(j.Running())[0].ID
	if err := j.Find(id).Kill(); err != nil {
		t.Fatalf("the session cannot be killed: %v", err)
	}
	c.hear("421 an operator ended the session")
	c.heardAll()
	if e, _ := j.Explain(id); e.Verdict.Code != verdict.CodeKilled {
		t.Errorf("got verdict %s; want %s", e.Verdict.Code, verdict.CodeKilled)
	}
	if err := j.Find(id).Kill(); err != sessions.ErrEnded {
		t.Errorf("a second kill: got %v; want %v", err, sessions.ErrEnded)
	}
}

// A server that takes no connection: the client hears so when the dial time is over.
func TestSessionDialTime(t *testing.T) {
	b := newStage(t, limited(forward.Limits{Dial: time.Millisecond}), func(p *Proxy, _ *forward.Resolved) {
		p.dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	c := b.dial()
	c.hear("421 cannot reach the server")
	c.heardAll()
}

// If the gateway is behind NAT, a client gets the address that is advertised to it.
func TestSessionAdvertises(t *testing.T) {
	b := newStage(t, func(_ *Proxy, f *forward.Resolved) {
		f.Advertised = []forward.Advertised{
			{Addr: netip.MustParseAddr("198.51.100.7")},
			{Clients: netip.MustParsePrefix("127.0.0.0/8"), Addr: netip.MustParseAddr("198.51.100.8")},
		}
	}).connect().login()
	b.client.say("PASV\r\n")
	b.server.hear("PASV")
	b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
	b.client.hear("227 Entering Passive Mode (198,51,100,8,195,80)")
}

// A listener that fails ends Serve, with its sessions.
func TestServeListenerFails(t *testing.T) {
	l := loopback(t)
	p := &Proxy{Log: newStage(t).logger(), Forward: func() forward.Resolved { return forward.Resolved{} }}
	done := make(chan error, 1)
	go func() { done <- p.Serve(t.Context(), t.Context(), l) }()
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v; want that the listener is closed", err)
	}
}

// Half-open sessions, that is clients that never say a word, cost their login time and no more.
func TestSessionHalfOpen(t *testing.T) {
	t.Parallel()
	b := newStage(t, limited(forward.Limits{Login: short}))
	var clients []*peer
	for range 50 {
		clients = append(clients, b.dial())
		b.accept()
		b.server.say("220 hello\r\n")
	}
	for _, c := range clients {
		c.hear("220 hello")
		c.hear("421 no login within 1s")
		c.heardAll()
	}
	b.wantRefused("time=50")
}

// A nil Counts counts nothing.
func TestCountsNil(t *testing.T) {
	b := newStage(t, func(p *Proxy, _ *forward.Resolved) { p.Counts = nil }).connect().login()
	close(b.transfer().done)
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	b.client.say("PORT 1\r\n")
	b.client.hear("501 PORT names no address and port")
}

// A session of a client that has gone leaves no goroutine behind that reads its server.
func TestSessionLeavesTheServer(t *testing.T) {
	b := newStage(t).connect()
	b.client.Close()
	if _, err := io.ReadAll(b.server.lines); err != nil {
		t.Errorf("got %v; want the end", err)
	}
}
