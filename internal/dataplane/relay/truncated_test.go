package relay

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relaytest"
)

// wantTruncated checks who is said to have ended without close_notify.
func wantTruncated(t *testing.T, err error, who Side, inside bool) {
	t.Helper()
	wantBroken(t, err, who)
	short, ok := errors.AsType[*TruncatedError](err)
	if !ok || short.Side != who || short.Inside != inside {
		t.Fatalf("got %v; want the %s's data truncated, inside a record %t", err, who, inside)
	}
	if option := "tls." + who.String() + `_close_notify = "optional"`; strings.Contains(short.Remedy(),
		option) == inside {
		t.Errorf("got the remedy %q; want %s in it: %t", short.Remedy(), option, !inside)
	}
	if code, text := short.Reply(); code != 426 || !strings.Contains(text,
		"the "+who.String()+"'s data ended") {
		t.Errorf("got %d %q; want 426, and the %s named", code, text, who)
	}
}

// TestTruncated has a sender's data end by a FIN alone: between two records, or inside one, with a leg that
// may end so or not.
func TestTruncated(t *testing.T) {
	for _, l := range tlsLegs {
		for _, who := range []Side{Client, Server} {
			if who == Client && !l.client || who == Server && !l.server {
				continue
			}
			for _, optional := range []bool{false, true} {
				for _, inside := range []bool{false, true} {
					name := l.String() + "/" + who.String()
					if optional {
						name += "/optional"
					}
					if inside {
						name += "/inside"
					}
					t.Run(name, func(t *testing.T) {
						dataTLS := l.dataTLS()
						dataTLS.ClientCloseNotifyOptional = optional && who == Client
						dataTLS.ServerCloseNotifyOptional = optional && who == Server
						truncate(t, dataTLS, who, inside, optional && !inside)
					})
				}
			}
		}
	}
}

func truncate(t *testing.T, dataTLS dataplane.DataTLS, who Side, inside, complete bool) {
	dc, client, srv := connectedTLS(t, dataTLS)
	sends, gets := at(who, client, srv)
	tell(t, sends, gets, "half of a file")
	if inside {
		sends.tcp.Write([]byte{23, 3, 3, 1, 0, 'x'}) // the beginning of a record of 256 bytes
	}
	sends.tcp.CloseWrite()
	if !complete {
		wantEndReset(t, "receiver", gets)
		wantTruncated(t, wait(t, dc).Err, who, inside)
		return
	}
	wantEnd(t, "receiver", gets, nil)
	gets.CloseWrite()
	if r := wait(t, dc); r.Err != nil {
		t.Error(r.Err)
	}
}

// TestReceiverJustCloses has a receiver close without close_notify after it has got all: it has sent nothing
// that could be cut short, not even where the file is empty.
func TestReceiverJustCloses(t *testing.T) {
	for _, l := range tlsLegs {
		for _, who := range []Side{Client, Server} {
			for name, file := range map[string][]byte{"a file": []byte("a file"), "an empty file": nil} {
				t.Run(l.String()+"/"+who.String()+"/"+name, func(t *testing.T) {
					dc, client, srv := connectedTLS(t, l.dataTLS())
					gets, sends := at(who, client, srv)
					sends.Write(file)
					sends.CloseWrite()
					wantEnd(t, "receiver", gets, file)
					gets.tcp.Close()
					wantEnd(t, "sender", sends, nil)
					if r := wait(t, dc); r.Err != nil {
						t.Error(r.Err)
					}
				})
			}
		}
	}
}

// TestEmptyTruncated has a FIN come without close_notify before anything else, as an attacker may send it: no
// empty file comes of it, unless the leg may end so.
func TestEmptyTruncated(t *testing.T) {
	for _, who := range []Side{Client, Server} {
		t.Run(who.String(), func(t *testing.T) {
			dc, client, srv := connectedTLSBy(t, hasty(), legs{true, true}.dataTLS())
			closes, other := at(who, client, srv)
			closes.tcp.CloseWrite()
			wantEndReset(t, "other end", other)
			wantTruncated(t, wait(t, dc).Err, who, false)
		})
		t.Run(who.String()+"/optional", func(t *testing.T) {
			dataTLS := legs{true, true}.dataTLS()
			dataTLS.ClientCloseNotifyOptional = who == Client
			dataTLS.ServerCloseNotifyOptional = who == Server
			dc, client, srv := connectedTLSBy(t, hasty(), dataTLS)
			closes, other := at(who, client, srv)
			closes.tcp.CloseWrite()
			wantEnd(t, "other end", other, nil)
			other.CloseWrite()
			if r := wait(t, dc); r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
}

// TestEarlyReceiver has a receiver close its direction without close_notify before the sender has begun,
// and the sender begin in time.
func TestEarlyReceiver(t *testing.T) {
	dc, client, srv := connectedTLS(t, legs{true, true}.dataTLS())
	client.tcp.CloseWrite()
	tell(t, srv, client, "a file")
	srv.CloseWrite()
	wantEnd(t, "client", client, nil)
	wantEnd(t, "server", srv, nil)
	if r := wait(t, dc); r.Err != nil {
		t.Error(r.Err)
	}
}

// TestOptionalCloseNotifyReset has a leg whose close_notify is optional end by a reset that the kernel
// reports to the other direction: that is no FIN.
func TestOptionalCloseNotifyReset(t *testing.T) {
	for range 20 {
		dataTLS := legs{true, true}.dataTLS()
		dataTLS.ClientCloseNotifyOptional = true
		dc, client, srv := connectedTLS(t, dataTLS)
		tell(t, client, srv, "half of a file")
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(struct{ io.Writer }{srv}, zeros{})
			sent <- err
		}()
		io.CopyN(io.Discard, client, 1<<20)
		relaytest.Reset(client.tcp)
		if err := <-sent; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v; want a reset", err)
		}
		wantBroken(t, wait(t, dc).Err, Client)
	}
}
