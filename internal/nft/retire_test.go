package nft_test

import (
	"fmt"
	"testing"
	"time"

	"ftpgate/internal/lab/labtest"
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
				t.Fatalf("got\n%s\nwant no elements", dump(t, l.Gateway()))
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
