package repair

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

// Where this process may not use nftables, the table is compared on request, until Close.
func TestStartWithoutNotifications(t *testing.T) {
	asked := 0
	r := New(Config{Table: "ftpgate", Log: slog.New(slog.DiscardHandler),
		PutBack:  func([]string) ([]string, bool, error) { asked++; return nil, false, nil },
		Restore:  func() error { return nil },
		Repaired: func() {},
	})
	r.Close() // of what has not begun
	r.Start(false)
	r.Start(false)
	if err := r.Repair(t.Context()); err != nil || asked != 1 || r.Subscribed() {
		t.Errorf("got %v, %d comparisons, subscribed %t; want one, without notifications", err, asked,
			r.Subscribed())
	}
	r.Close()
	if err := r.Repair(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("after Close got %v; want %v", err, context.Canceled)
	}
}
