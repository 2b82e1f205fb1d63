package listeners

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/control/proxy"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/dataplane/path"
	"ftpgate/internal/observe/sessions"
)

// gateway is a set with what it logs and refuses.
type gateway struct {
	*Set
	t   *testing.T
	log *strings.Builder

	mu      sync.Mutex
	refused []string // "forward kind"
}

// newGateway returns an empty set, which the test's end stops.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, log: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(g.log, nil))
	paths := path.New(path.Config{Table: "ftpgate-test", Log: log})
	paths.Update(nil, false) // the relay only, which takes no privilege
	g.Set = New(Shared{
		Log:        log,
		Counts:     &proxy.Counts{},
		SessionLog: sessions.New(time.Now()),
		DataPath:   paths.For,
		Refused: func(forward, kind string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.refused = append(g.refused, forward+" "+kind)
		},
	})
	t.Cleanup(func() {
		g.Stop(0)
		paths.Close()
	})
	return g
}

// serve opens and serves the forwards, and expects no finding.
func (g *gateway) serve(drain time.Duration, forwards ...forward.Resolved) {
	g.t.Helper()
	opened, findings := g.Open(context.Background(), forwards)
	if len(findings) > 0 {
		g.t.Fatalf("got findings %v; want none", findings)
	}
	g.Serve(context.Background(), forwards, opened, drain)
	if len(opened) > 0 {
		g.t.Errorf("got %d sockets left over; want all served", len(opened))
	}
}
