package nftset_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/try/lab/labtest"
)

// Pinholes that have been used go soon, one alone and many together; what comes in the place of one
// that is to go stays.
func TestPinholeRetired(t *testing.T) {
	labtest.Need(t, "nft")
	l, p := pinholeLab(t)
	hole := func(port int) string {
		return fmt.Sprintf("192.168.5.1 > 192.168.5.2:%d > 203.0.113.1 > 203.0.113.21:%d", port, port)
	}
	for _, n := range []int{1, 300} {
		for i := range n {
			add(t, p, parseHole(t, hole(50000+i)))
		}
		for i := range n {
			p.Retire(parseHole(t, hole(50000+i)))
		}
		for stop := time.Now().Add(patience); len(listed(t, l.Gateway())) > 0; {
			if time.Now().After(stop) {
				t.Fatalf("got\n%s\nwant no elements", nft.dump(t, l.Gateway()))
			}
		}
	}
	again := parseHole(t, hole(50000))
	add(t, p, again)
	p.Retire(again)
	add(t, p, again) // before or after it is swept
	p.Retire(parseHole(t, hole(50001)))
	add(t, p, parseHole(t, hole(50002)))
	remove(t, p, parseHole(t, hole(50002)))
	if err := p.Close(); err != nil { // which sweeps
		t.Fatal(err)
	}
	wantElements(t, l.Gateway(), 2) // of the one that came again
}

// Whoever asks is answered, whatever else goes on: pinholes come, are retired, removed and withdrawn
// by many at a time.
func TestPinholeNobodyForgotten(t *testing.T) {
	l, _ := pinholeLab(t)
	p := openPinholesFor(t, l.Gateway(), time.Millisecond, time.Minute)
	var callers sync.WaitGroup
	for c := range 16 {
		callers.Go(func() {
			for i := range 400 {
				port := 50000 + c*400 + i%5 // again and again, before and after they are swept
				hole := parseHole(t, fmt.Sprintf("192.168.5.1 > 192.168.5.2:%d > 203.0.113.1 > 203.0.113.21:%d", port, port))
				if err := p.Add(hole); err != nil {
					t.Error(err)
					return
				}
				if i%3 > 0 {
					p.Retire(hole)
				} else if err := p.Remove(hole); err != nil {
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
		t.Fatal("somebody waits for an answer")
	}
}
