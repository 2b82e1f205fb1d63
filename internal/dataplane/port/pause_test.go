package port

import (
	"testing"
	"time"
)

// A port that is closed while it pauses, because there are no descriptors, is not served on.
func TestClosedInPause(t *testing.T) {
	l := listener{closed: make(chan struct{})}
	close(l.closed)
	if l.pause(time.Minute) {
		t.Error("a closed listener goes on")
	}
}
