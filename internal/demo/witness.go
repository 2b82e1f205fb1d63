package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// maxBacklog is how many events of the server may wait to be looked at: those of a session that
// the story has given up.
const maxBacklog = 1024

// witness is the server's side of the dialogue, in the order of its events.
type witness struct {
	events chan event
	done   chan struct{} // closed when the server's events have ended
	once   sync.Once
	stop   chan struct{}
}

// newWitness reads events from the server's output until it ends; close waits for that.
func newWitness(from io.Reader) *witness {
	w := &witness{events: make(chan event, maxBacklog), done: make(chan struct{}), stop: make(chan struct{})}
	go w.read(json.NewDecoder(from))
	return w
}

func (w *witness) read(dec *json.Decoder) {
	defer close(w.done)
	for {
		var ev event
		if dec.Decode(&ev) != nil {
			return
		}
		select {
		case w.events <- ev:
		case <-w.stop: // read on, so that the server never waits for a reader
		}
	}
}

// close waits until the server's output has ended.
func (w *witness) close() {
	w.once.Do(func() { close(w.stop) })
	<-w.done
}

// next returns the next event, which must be of that kind.
func (w *witness) next(ctx context.Context, k kind) (string, error) {
	ev, err := w.take(ctx)
	if err != nil {
		return "", fmt.Errorf("what the server has %s: %w", k, err)
	}
	if ev.Kind != k {
		return "", fmt.Errorf("the server has %s %q where it should have %s something", ev.Kind, ev.Text, k)
	}
	return ev.Text, nil
}

// greeting returns the reply with which a session begins; what is left of an earlier session
// is passed over.
func (w *witness) greeting(ctx context.Context) (string, error) {
	for {
		ev, err := w.take(ctx)
		if err != nil {
			return "", fmt.Errorf("the server's greeting: %w", err)
		}
		if ev.Kind == sent && strings.HasPrefix(ev.Text, "220 ") {
			return ev.Text, nil
		}
	}
}

func (w *witness) take(ctx context.Context) (event, error) {
	select {
	case ev := <-w.events:
		return ev, nil
	case <-w.done:
		select {
		case ev := <-w.events: // both were there
			return ev, nil
		default:
		}
		return event{}, errors.New("the server has ended")
	case <-ctx.Done():
		return event{}, context.Cause(ctx)
	}
}
