package nftset_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/try/lab/labtest"
)

// RemoveLater deletes pinholes soon, one alone and many together. It does not delete a pinhole that replaced
// the removed one.
func TestRemoveLater(t *testing.T) {
	labtest.Need(t, "nft")
	l, p := pinholeLab(t)
	for _, n := range []int{1, 300} {
		for i := range n {
			add(t, p, parsePinhole(t, numberedPinhole(50000+i)))
		}
		for i := range n {
			p.RemoveLater(parsePinhole(t, numberedPinhole(50000+i)))
		}
		for stop := time.Now().Add(patience); len(listed(t, l.Gateway())) > 0; {
			if time.Now().After(stop) {
				t.Fatalf("got\n%s\nwant no elements", nfttest.List(t, l.Gateway()))
			}
		}
	}
	again := parsePinhole(t, numberedPinhole(50000))
	add(t, p, again)
	p.RemoveLater(again)
	add(t, p, again) // before or after the removal
	p.RemoveLater(parsePinhole(t, numberedPinhole(50001)))
	add(t, p, parsePinhole(t, numberedPinhole(50002)))
	remove(t, p, parsePinhole(t, numberedPinhole(50002)))
	if err := p.Close(); err != nil { // flushes the removals
		t.Fatal(err)
	}
	wantElements(t, l.Gateway(), 2) // of the pinhole that was added again
}

// Every request is answered while many callers add and remove pinholes, and others expire.
func TestPinholeEveryRequestAnswered(t *testing.T) {
	l, _ := pinholeLab(t)
	p := openPinholesFor(t, l.Gateway(), time.Millisecond, time.Minute)
	var callers sync.WaitGroup
	for c := range 16 {
		callers.Go(func() {
			for i := range 400 {
				port := 50000 + c*400 + i%5 // again and again, before and after their removal
				pinhole := parsePinhole(t, numberedPinhole(port))
				if err := p.Add(pinhole); err != nil {
					t.Error(err)
					return
				}
				if i%3 > 0 {
					p.RemoveLater(pinhole)
				} else if err := p.Remove(pinhole); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		callers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a request was not answered")
	}
}

// numberedPinhole writes a pinhole whose ports are the same on both sides.
func numberedPinhole(port int) string {
	return fmt.Sprintf("192.168.5.1 > 192.168.5.2:%d > 203.0.113.1 > 203.0.113.21:%d", port, port)
}
