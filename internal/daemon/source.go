package daemon

import (
	"context"
	"iter"
	"os"
	"runtime"
	"time"

	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

// source answers for a running daemon.
type source struct{ *instance }

// Sessions yields the sessions that run, or those that have ended.
func (s source) Sessions(ended bool) iter.Seq[sessions.Session] {
	if ended {
		return s.book.Ended()
	}
	return s.book.Running()
}

// Explain returns a session with its time line.
func (s source) Explain(id string) (sessions.Explained, bool) { return s.book.Explain(id) }

// Kill ends a session.
func (s source) Kill(id string) error {
	r := s.book.Find(id)
	if r == nil {
		if _, known := s.book.Explain(id); known {
			return &admin.Error{Text: "session " + id + " has ended already", Kind: admin.ErrNotNow}
		}
		return &admin.Error{Text: "there is no session " + id, Remedy: "ftpgate sessions shows those that run", Kind: admin.ErrNoSession}
	}
	if !r.Kill() {
		return &admin.Error{Text: "session " + id + " is tracked by the kernel, which lets its connections go on",
			Remedy: "take its client out of the forward's clients, or its connections away with conntrack -D and a filter", Kind: admin.ErrNotNow}
	}
	return nil
}

// Reload has the file read again.
func (s source) Reload(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case s.asks <- answer:
		return <-answer
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Status tells how the daemon is.
func (s source) Status() admin.Status {
	now := time.Now()
	st := admin.Status{Version: s.Endpoints.Version, Build: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH, PID: os.Getpid(), Since: s.began,
		File: s.Endpoints.File, Forwards: s.forwards(), Certificates: s.certificates(now)}
	if count, limit, err := system.ConntrackFill(); err == nil && limit > 0 {
		st.Conntrack = &admin.Conntrack{Count: int64(count), Max: int64(limit)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Reload = s.lastReload
	st.Capabilities = []string{"the kernel may carry data connections"}
	if s.tables && s.g.Installed() {
		st.Table = "inet " + s.Table
	}
	if s.tables {
		return st
	}
	st.Capabilities = []string{"ftpgate carries all data connections itself"}
	for _, why := range s.noTables {
		st.Capabilities = append(st.Capabilities, why.Text+": "+why.Remedy)
	}
	return st
}

// forwards tells how each forward is.
func (s source) forwards() []admin.Forward {
	list, clients := s.book.Counts()
	s.mu.Lock()
	tables := s.tables
	s.mu.Unlock()
	published := s.g.Forwards()
	all := make([]admin.Forward, 0, len(published))
	for _, f := range published {
		way, why := f.FTPS()
		t := s.book.Tally(f.Name)
		at := sessions.Busy{Forward: f.Name, Tracking: f.Tracking}
		a := admin.Forward{Name: f.Name, Listen: f.Listen.String(), Server: f.Server.String(), Addresses: f.ServerAddrs(), Tracking: f.Tracking.String(),
			DataPath: carrierOf(f, tables).String(), FTPS: way, FTPSWhy: why,
			Sessions: list[at], Clients: clients[at], Total: t.Sessions, Transfers: int64(t.Transfers), Failed: int64(t.Failed),
			Up: t.Up, Down: t.Down, Refused: t.Refused}
		if len(a.Addresses) == 0 {
			a.Problem = "the server's name has no address"
		}
		all = append(all, a)
	}
	return all
}

// certificates tells until when they are good.
func (s source) certificates(now time.Time) (all []admin.Certificate) {
	for _, e := range s.keys.Expiries() {
		days := int(e.NotAfter.Sub(now).Hours() / 24)
		for _, f := range e.Forwards {
			c := admin.Certificate{Forward: f, File: e.File, Expires: e.NotAfter, DaysLeft: days}
			switch {
			case now.After(e.NotAfter):
				c.Warning = "has expired"
			case days < warnDays:
				c.Warning = "expires soon"
			}
			all = append(all, c)
		}
	}
	return all
}

// warnDays is from when on the end of a certificate is warned of.
const warnDays = 30
