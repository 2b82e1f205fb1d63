package demo

import (
	"fmt"
	"strings"
	"testing"
)

// TestLogBuffer writes the record "ready" in pieces, and checks that no other record counts as ready.
func TestLogBuffer(t *testing.T) {
	w := &logBuffer{ready: make(chan struct{})}
	for _, piece := range []string{"level=INFO msg=\"not ready\"\n", "level=INFO msg=rea", "dy forward=x"} {
		fmt.Fprint(w, piece)
		select {
		case <-w.ready:
			t.Fatalf("ready after %q", piece)
		default:
		}
	}
	fmt.Fprint(w, "\nlast")
	select {
	case <-w.ready:
	default:
		t.Errorf("not ready after the whole record")
	}
	want := "\n  level=INFO msg=\"not ready\"\n  level=INFO msg=ready forward=x\n  last"
	if got := w.quote(); got != want {
		t.Errorf("quote: got %q; want %q", got, want)
	}
	fmt.Fprint(w, strings.Repeat("x", 2*maxLog))
	if got := len(w.tail); got > maxLog {
		t.Errorf("tail: got %d bytes; want %d at most", got, maxLog)
	}
}
