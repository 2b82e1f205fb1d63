package tlskeys

import (
	"crypto/tls"
	"testing"
	"time"
)

// TestTickets: which ticket is chosen.
func TestTickets(t *testing.T) {
	at := &clock{at: time.Now()}
	cache := &tickets{now: at.now}
	made := make([]*tls.ClientSessionState, maxTickets+2)
	for i := range made {
		made[i] = &tls.ClientSessionState{}
	}
	want := func(step string, i int) {
		t.Helper()
		if got, ok := cache.Get(""); !ok || got != made[i] {
			t.Errorf("%s: got another ticket or none; want number %d", step, i)
		}
	}
	if _, ok := cache.Get(""); ok {
		t.Error("got a ticket of an empty cache")
	}
	cache.Put("", made[0])
	cache.Put("", made[1])
	want("newest", 1)
	want("the other one, not used", 0)
	want("all used: newest", 1)
	cache.Put("", nil)
	want("kept after a failure", 1)
	cache.Put("", made[2])
	cache.Put("", made[3])
	at.pass(ticketLife)
	want("newest", 3)
	want("number 2 is stale", 3)
	cache.Put("", made[4])
	cache.Put("", made[5])
	if want("newest", 5); len(cache.kept) != maxTickets {
		t.Errorf("%d tickets are kept; want %d", len(cache.kept), maxTickets)
	}
}
