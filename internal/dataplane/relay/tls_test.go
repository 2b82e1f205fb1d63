package relay

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/dataplane/leg"
	"ftpgate/internal/dataplane/relaytest"
)

// TestTLS carries files of all kinds over all ways, with all combinations of TLS legs.
func TestTLS(t *testing.T) {
	before, _ := filepath.Glob("/proc/self/fd/*")
	for _, m := range []mode{passive, active, bridged} {
		for _, l := range tlsLegs {
			for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				for _, size := range []int{0, 1, 10*leg.BufferSize + 7} {
					for _, sender := range []Side{Client, Server} {
						name := fmt.Sprintf("%s/%s/%s/%d bytes/from the %s", m, l, tls.VersionName(v), size,
							sender)
						t.Run(name, func(t *testing.T) { tlsFile(t, m, l, v, size, sender) })
					}
				}
			}
		}
	}
	relaytest.Await(t, func() bool {
		now, _ := filepath.Glob("/proc/self/fd/*")
		return len(now) <= len(before)+8 // package net's and the tests' own
	}, func() string { return "descriptors are left" })
}

func tlsFile(t *testing.T, m mode, l legs, v uint16, size int, sender Side) {
	dc, client, srv := connectTLS(t, opener(), m, v, l.dataTLS())
	sends, gets := at(sender, client, srv)
	file := relaytest.Noise(size)
	sent := make(chan error, 1)
	go func() {
		_, err := sends.Write(file)
		sent <- errors.Join(err, sends.CloseWrite())
	}()
	wantEnd(t, "receiver", gets, file)
	if err := errors.Join(<-sent, gets.CloseWrite()); err != nil {
		t.Error(err)
	}
	wantEnd(t, "sender", sends, nil)
	up, down := int64(0), int64(size)
	if sender == Client {
		up, down = down, up
	}
	if r := wait(t, dc); r.Err != nil || r.Up != up || r.Down != down {
		t.Errorf("got %+v; want no error, %d and %d bytes", r, up, down)
	}
	if dc.Finish(nil); dc.Err() != nil {
		t.Errorf("Finish: %v", dc.Err())
	}
}

// TestTLSLarge carries more than the sockets' buffers begin with, in pieces that fit none of ours.
func TestTLSLarge(t *testing.T) {
	const size = 8 << 20
	for _, l := range tlsLegs {
		for _, sender := range []Side{Client, Server} {
			t.Run(l.String()+"/from the "+sender.String(), func(t *testing.T) {
				dc, client, srv := connectedTLS(t, l.dataTLS())
				sends, gets := at(sender, client, srv)
				want, got := sha256.New(), sha256.New()
				sent := make(chan error, 1)
				go func() {
					source := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
					_, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(sends, want)}, source,
						make([]byte, 200_001))
					sent <- errors.Join(err, sends.CloseWrite())
				}()
				n, err := io.Copy(got, gets)
				if err := errors.Join(err, <-sent, gets.CloseWrite()); err != nil {
					t.Error(err)
				}
				if n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
					t.Errorf("got %d bytes, equal %t; want %d", n, bytes.Equal(got.Sum(nil), want.Sum(nil)),
						size)
				}
				if r := wait(t, dc); r.Err != nil || r.Up+r.Down != size {
					t.Errorf("got %+v; want %d bytes", r, size)
				}
			})
		}
	}
}

// TestTLSTrickle has each piece arrive before the next is sent, to and fro, in sizes around a record's
// and a piece's, and then one end finish long before the other.
func TestTLSTrickle(t *testing.T) {
	for _, l := range tlsLegs {
		t.Run(l.String(), func(t *testing.T) {
			dc, client, srv := connectedTLS(t, l.dataTLS())
			for _, size := range []int{1, 5, 16<<10 - 1, 16 << 10, 16<<10 + 1, leg.BufferSize,
				leg.BufferSize + leg.BufferHeadroom, leg.BufferSize + 1} {
				for _, sender := range []Side{Client, Server} {
					sends, gets := at(sender, client, srv)
					word := relaytest.Noise(size)
					go sends.Write(word)
					got := make([]byte, size)
					if _, err := io.ReadFull(gets, got); err != nil || !bytes.Equal(got, word) {
						t.Fatalf("%d bytes from the %s: %v, equal %t", size, sender, err,
							bytes.Equal(got, word))
					}
				}
			}
			client.CloseWrite()
			wantEnd(t, "server", srv, nil)
			for range 3 {
				tell(t, srv, client, "later")
			}
			srv.CloseWrite()
			wantEnd(t, "client", client, nil)
			if r := wait(t, dc); r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
}

// TestTLSReset has an end break off in the middle: the other one sees a reset.
func TestTLSReset(t *testing.T) {
	for _, l := range tlsLegs {
		for _, who := range []Side{Client, Server} {
			t.Run(l.String()+"/"+who.String(), func(t *testing.T) {
				dc, client, srv := connectedTLS(t, l.dataTLS())
				breaker, other := at(who, client, srv)
				tell(t, breaker, other, "half of a file")
				relaytest.Reset(breaker.tcp)
				wantEndReset(t, "other end", other)
				wantBroken(t, wait(t, dc).Err, who)
			})
			t.Run(l.String()+"/"+who.String()+" while it is written to", func(t *testing.T) {
				dc, client, srv := connectedTLS(t, l.dataTLS())
				breaker, other := at(who, client, srv)
				sent := make(chan error, 1)
				go func() { // without an end
					_, err := io.Copy(struct{ io.Writer }{other}, zeros{})
					sent <- err
				}()
				io.CopyN(io.Discard, breaker, 1<<20)
				relaytest.Reset(breaker.tcp)
				if err := <-sent; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("got %v; want a reset", err)
				}
				wantBroken(t, wait(t, dc).Err, who)
			})
		}
	}
}

// TestTLSSever breaks a connection in the middle.
func TestTLSSever(t *testing.T) {
	for _, l := range tlsLegs {
		t.Run(l.String(), func(t *testing.T) {
			dc, client, srv := connectedTLS(t, l.dataTLS())
			tell(t, srv, client, "half of a file")
			dc.Close()
			dc.Sever()
			wantEndReset(t, "client", client)
			wantEndReset(t, "server", srv)
			if r := resultOf(dc); r.Err != ErrClosed {
				t.Errorf("got %v; want %v", r.Err, ErrClosed)
			}
		})
	}
}

// TestTLSFinish has the receiver wait for the reply before it closes, and not read before.
func TestTLSFinish(t *testing.T) {
	for _, l := range tlsLegs {
		for _, size := range []int{0, 5, 3 << 20} {
			t.Run(fmt.Sprintf("%s/%d bytes", l, size), func(t *testing.T) {
				dc, client, srv := connectedTLS(t, l.dataTLS())
				file, got := relaytest.Noise(size), new(bytes.Buffer)
				go func() {
					srv.Write(file)
					srv.CloseWrite()
				}()
				if size > 1<<20 {
					io.CopyN(got, client, int64(size-1<<10))
				}
				wantFinish(t, finishing(dc, nil), nil)
				dc.Sever()
				if _, err := io.Copy(got, client); err != nil || !bytes.Equal(got.Bytes(), file) {
					t.Errorf("got %d bytes, %v; want %d", got.Len(), err, size)
				}
				if r := resultOf(dc); r.Err != nil {
					t.Errorf("got %v; want it delivered", r.Err)
				}
			})
		}
	}
}

// TestTicketsUnread has clients upload, and never read the session tickets that the gateway sends: their
// kernel resets the connection when they close it, and what they sent, with its end, is complete. The
// server reads only then, and answers in its own way.
func TestTicketsUnread(t *testing.T) {
	for name, closeServer := range map[string]func(party){
		"close_notify":    func(srv party) { srv.CloseWrite() },
		"no close_notify": func(srv party) { srv.tcp.Close() },
	} {
		for _, l := range []legs{{true, false}, {true, true}} {
			t.Run(name+"/"+l.String(), func(t *testing.T) {
				for range 10 {
					dc, client, srv := connectTLS(t, opener(), passive, 0, l.dataTLS())
					client.tls = tls.Client(byteReader{client.tcp}, dialling())
					handshake(t, client, srv)
					file := relaytest.Noise(100_000)
					if _, err := client.Write(file); err != nil {
						t.Fatal(err)
					}
					if err := client.CloseWrite(); err != nil {
						t.Fatal(err)
					}
					wantUnread(t, client)
					client.tcp.Close()
					wantEnd(t, "server", srv, file)
					closeServer(srv)
					if r := wait(t, dc); r.Err != nil || r.Up != int64(len(file)) {
						t.Fatalf("got %+v; want %d bytes", r, len(file))
					}
				}
			})
		}
	}
}

// byteReader reads one byte at a time, so that crypto/tls never reads behind the message that it needs: the
// ticket comes together with the end of the handshake.
type byteReader struct{ net.Conn }

func (r byteReader) Read(p []byte) (int, error) { return r.Conn.Read(p[:min(1, len(p))]) }

// wantUnread waits until e has unread data: then its close is a reset.
func wantUnread(t *testing.T, e party) {
	t.Helper()
	in, err := leg.NewReadable(e.tcp)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := in.Available(); n == 0 || err != nil {
		t.Fatalf("got %d bytes, %v; want some that were not read", n, err)
	}
}

// TestTLSStalled has a receiver that reads nothing: what is kept is bounded.
func TestTLSStalled(t *testing.T) {
	dc, client, srv := connectedTLS(t, legs{true, true}.dataTLS())
	tell(t, srv, client, "a file")
	client.tcp.SetReadBuffer(64 << 10)
	setWriteBuffer(t, dc.ends[Client], 64<<10)
	block := relaytest.Noise(1 << 20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sent := make(chan error, 1)
	go func() {
		for range 8 {
			if _, err := srv.Write(block); err != nil {
				sent <- err
				return
			}
		}
		sent <- srv.CloseWrite()
	}()
	at := func() int64 { _, n := dc.Bytes(); return n }
	for last, until := int64(-1), time.Now().Add(time.Second/4); time.Now().Before(until); runtime.Gosched() {
		if now := at(); now != last {
			last, until = now, time.Now().Add(time.Second/4) // until nothing moves
		}
	}
	runtime.GC() // what is garbage is not held
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 16*leg.BufferSize { // of 8 MiB
		t.Errorf("a stalled connection holds %d bytes of heap", got)
	}
	if n, err := io.Copy(io.Discard, client); n != 8<<20 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	if err := errors.Join(<-sent, client.CloseWrite()); err != nil {
		t.Error(err)
	}
	if r := wait(t, dc); r.Err != nil {
		t.Error(r.Err)
	}
}

// BenchmarkTLS carries one large stream as BenchmarkStream does, with TLS on the legs. Both ends' own TLS
// runs on the same cores.
func BenchmarkTLS(b *testing.B) {
	const size = 64 << 20
	for _, l := range append([]legs{{}}, tlsLegs...) {
		b.Run(l.String(), func(b *testing.B) {
			_, client, srv := connectedTLS(b, l.dataTLS())
			client.tcp.SetDeadline(time.Time{})
			srv.tcp.SetDeadline(time.Time{})
			b.SetBytes(size)
			done := make(chan struct{})
			var before, after syscall.Rusage
			syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			b.ResetTimer()
			go func() {
				defer close(done)
				block := make([]byte, 1<<20)
				for sent := 0; sent < size*b.N; sent += len(block) {
					if _, err := srv.Write(block); err != nil {
						b.Error(err)
						return
					}
				}
				srv.CloseWrite()
			}()
			buf := make([]byte, 1<<20)
			for {
				if _, err := client.Read(buf); err != nil {
					break
				}
			}
			<-done
			syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			used := func(r syscall.Rusage) float64 {
				return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
			}
			b.ReportMetric((used(after)-used(before))/(float64(b.N)*size/(1<<30)), "cpu-s/GiB")
		})
	}
}
