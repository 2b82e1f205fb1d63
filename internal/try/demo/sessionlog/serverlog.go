package sessionlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// maxBacklog is how many unread events of the server are kept: those of a session that the client abandoned.
const maxBacklog = 1024

// ServerLog is the server's side of its sessions, in the order of its events.
type ServerLog struct {
	events chan Event
	done   chan struct{} // closed when the server's events have ended
	once   sync.Once
	stop   chan struct{}
}

// ReadServerLog reads events from the server's output until the output ends. Close waits for that.
func ReadServerLog(from io.Reader) *ServerLog {
	w := &ServerLog{events: make(chan Event, maxBacklog), done: make(chan struct{}),
		stop: make(chan struct{})}
	go w.read(json.NewDecoder(from))
	return w
}

func (w *ServerLog) read(dec *json.Decoder) {
	defer close(w.done)
	for {
		var ev Event
		if dec.Decode(&ev) != nil {
			return
		}
		select {
		case w.events <- ev:
		case <-w.stop: // keep reading, so that the server never blocks on its output
		}
	}
}

// Close waits until the server's output has ended.
func (w *ServerLog) Close() {
	w.once.Do(func() { close(w.stop) })
	<-w.done
}

// Next returns the text of the next event, which must be of kind k.
func (w *ServerLog) Next(ctx context.Context, k Kind) (string, error) {
	ev, err := w.next(ctx)
	if err != nil {
		return "", fmt.Errorf("next %q event of the server: %w", k, err)
	}
	if ev.Kind != k {
		return "", fmt.Errorf("got the server event %q %q; want %q", ev.Kind, ev.Text, k)
	}
	return ev.Text, nil
}

// Greeting returns the reply that starts a session. It skips what is left of an earlier session.
func (w *ServerLog) Greeting(ctx context.Context) (string, error) {
	for {
		ev, err := w.next(ctx)
		if err != nil {
			return "", fmt.Errorf("the server's greeting: %w", err)
		}
		if ev.Kind == Sent && strings.HasPrefix(ev.Text, "220 ") {
			return ev.Text, nil
		}
	}
}

// Session returns the events of the next session, from its greeting (220) to the goodbye (221).
func (w *ServerLog) Session(ctx context.Context) ([]Event, error) {
	greeting, err := w.Greeting(ctx)
	if err != nil {
		return nil, err
	}
	events := []Event{{Kind: Sent, Text: greeting}}
	for {
		ev, err := w.next(ctx)
		if err != nil {
			return events, fmt.Errorf("the server's side of the session: %w", err)
		}
		events = append(events, ev)
		if ev.Kind == Sent && strings.HasPrefix(ev.Text, "221 ") {
			return events, nil
		}
	}
}

func (w *ServerLog) next(ctx context.Context) (Event, error) {
	select {
	case ev := <-w.events:
		return ev, nil
	case <-w.done:
		select {
		case ev := <-w.events: // both channels were ready
			return ev, nil
		default:
		}
		return Event{}, errors.New("the server has ended")
	case <-ctx.Done():
		return Event{}, context.Cause(ctx)
	}
}
