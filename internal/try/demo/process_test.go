package demo

import (
	"fmt"
	"strings"
	"testing"
)

// TestLogBuffer finds the record that says ready, in pieces, and no other.
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
	if got, want := w.quote(), "\n  level=INFO msg=\"not ready\"\n  level=INFO msg=ready forward=x\n  last"; got != want {
		t.Errorf("quote: got %q; want %q", got, want)
	}
	fmt.Fprint(w, strings.Repeat("x", 2*maxLog))
	if got := len(w.tail); got > maxLog {
		t.Errorf("kept: got %d bytes; want %d at most", got, maxLog)
	}
}
