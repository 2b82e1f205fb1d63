// Package status answers the admin API from the parts of a running daemon: its gateway, sessions and
// certificates.
//
// It only reads. It passes changes (ending a session, a reload) on.
//
// Locks: Source.mu and Examiner.mu are leaves. Nothing is called while one is held.
package status

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/gateway/bans"
	"ftpgate/internal/gateway/repair"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/health"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

// Gateway has the published forwards. *gateway.Gateway implements it. Its methods must not wait for the
// kernel.
type Gateway interface {
	Forwards() []forward.Resolved
	Installed() bool // the forwards need a table
}

// Keeper owns the bans. *bans.Keeper implements it.
type Keeper interface {
	Bans() []ban.Ban
	Denied() int
	Refuses(netip.Addr) bool
	Problems() []string
	Ban(p netip.Prefix, d time.Duration, reason string) (bans.Result, error)
	Unban(p netip.Prefix) (bans.Result, error)
}

// Source implements admin.Source. Set its exported fields before use. Its methods may be called from several
// goroutines; none but Reload,
// Explain and Doctor waits.
type Source struct {
	Version       string
	File          string // the configuration; empty: there is none
	Table         string // of nftables
	Started       time.Time
	Gateway       Gateway
	SessionLog    *sessions.Log
	Expiries      func() []tlskeys.Expiry
	RequestReload func(context.Context) error // reloads the configuration, and waits until it is in effect
	Repairs       func() repair.State         // of the table; it must not wait for the kernel
	Health        func(forward string) health.State
	Keeper        Keeper    // of the bans
	Examiner      *Examiner // of the host
	// FilterRemedy returns a remedy that names the filters that may refuse connections to a server; empty:
	// none
	FilterRemedy func(server string) string

	mu             sync.Mutex
	lastReload     *admin.Reload
	waitForRestart []string
	kernelUsable   bool
	kernelFaults   []finding.Finding
}

// SetKernel records whether this process may have tables in the kernel, and why not.
func (s *Source) SetKernel(usable bool, faults []finding.Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kernelUsable, s.kernelFaults = usable, slices.Clone(faults)
}

// SetReload records the result of the last reload, and the changed tables of the file that only a start
// reads.
func (s *Source) SetReload(at time.Time, err error, waitForRestart ...string) {
	last := &admin.Reload{At: at, OK: err == nil}
	if err != nil {
		last.Error = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastReload, s.waitForRestart = last, waitForRestart
}

// Sessions yields the running sessions, or the ended ones.
func (s *Source) Sessions(ended bool) iter.Seq[sessions.Session] {
	if ended {
		return s.SessionLog.Ended()
	}
	return s.SessionLog.Running()
}

// Explain returns a session with its time line, or false if no such session is known. If a filter of the
// gateway is the cause, it asks the kernel which one.
func (s *Source) Explain(id string) (sessions.Explained, bool) {
	e, known := s.SessionLog.Explain(id)
	if known && e.Verdict.Code == verdict.CodeGatewayFilter {
		e.Verdict.Remedy = cmp.Or(s.FilterRemedy(e.Server.Addr().String()), e.Verdict.Remedy)
	}
	return e, known
}

// Kill ends a session.
func (s *Source) Kill(id string) error {
	record := s.SessionLog.Find(id)
	if record == nil {
		return admin.ErrNoSession
	}
	switch record.Kill() {
	case sessions.ErrEnded:
		return &admin.Error{Text: "session " + id + " has ended already", Kind: admin.ErrNotNow}
	case sessions.ErrTrackedByKernel:
		return &admin.Error{
			Text: "session " + id + " is tracked by the kernel, which keeps its connections",
			Remedy: "take its client out of the forward's clients, " +
				"or its connections away with conntrack -D and a filter",
			Kind: admin.ErrNotNow,
		}
	}
	return nil
}

// Doctor returns the findings about the host.
func (s *Source) Doctor(ctx context.Context) (admin.Findings, error) { return s.Examiner.Findings(ctx) }

// Bans returns who is banned.
func (s *Source) Bans() admin.Bans {
	return admin.Bans{Bans: s.Keeper.Bans(), Denied: s.Keeper.Denied()}
}

// Ban bans addresses.
func (s *Source) Ban(b admin.BanRequest) (admin.Banned, error) {
	done, err := s.Keeper.Ban(b.Prefix, b.For, b.Reason)
	return admin.Banned{Ban: done.Ban, Ended: done.Ended, NotKept: textOf(done.NotKept),
		Warnings: done.Warnings}, err
}

// Unban lifts a ban.
func (s *Source) Unban(p netip.Prefix) (admin.Unbanned, error) {
	done, err := s.Keeper.Unban(p)
	return admin.Unbanned{Prefix: p, Refused: done.Refused, NotKept: textOf(done.NotKept)}, err
}

// textOf returns the text of an error; empty: there is none.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Reload reloads the configuration.
func (s *Source) Reload(ctx context.Context) error { return s.RequestReload(ctx) }

// Status returns the state of the daemon.
func (s *Source) Status() admin.Status {
	s.mu.Lock()
	usable, faults, lastReload := s.kernelUsable, s.kernelFaults, s.lastReload
	var warnings []string
	for _, table := range s.waitForRestart {
		warnings = append(warnings, "a change of "+table+" waits for a restart")
	}
	s.mu.Unlock()
	now := time.Now()
	st := admin.Status{
		Version: s.Version, Build: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		PID: os.Getpid(), Since: s.Started, File: s.File, Reload: lastReload,
		Bans: len(s.Keeper.Bans()), Denied: s.Keeper.Denied(),
		Forwards: s.forwards(usable), Certificates: s.certificates(now), Warnings: slices.Concat(warnings,
			s.tableWarnings(), s.Keeper.Problems()),
	}
	if count, limit, err := system.ConntrackFill(); err == nil && limit > 0 {
		st.Conntrack = &admin.Conntrack{Count: int64(count), Max: int64(limit)}
	}
	if usable {
		st.Capabilities = []string{"the kernel may carry data connections"}
		if s.Gateway.Installed() {
			st.Table = "inet " + s.Table
		}
		return st
	}
	st.Capabilities = []string{"ftpgate carries all data connections itself"}
	for _, why := range faults {
		st.Capabilities = append(st.Capabilities, why.Text+": "+why.Remedy)
	}
	return st
}

// tableWarnings returns warnings about other programs' changes of the table.
func (s *Source) tableWarnings() (all []string) {
	st := s.Repairs()
	if st.Err != nil {
		all = append(all, fmt.Sprintf("the table differs from what is wanted (%s): %v",
			strings.Join(st.Differences, ", "), st.Err))
	}
	if st.Repairs > 0 {
		by := "another program"
		if st.By != "" {
			by = st.By
		}
		all = append(all, fmt.Sprintf("%s of the table since the start, the last at %s: %s had removed rules",
			finding.Plural(st.Repairs, "repair"), st.Last.Format(time.DateTime), by))
	}
	return all
}

func (s *Source) forwards(kernelUsable bool) []admin.Forward {
	running, clients := s.SessionLog.Counts()
	published := s.Gateway.Forwards()
	all := make([]admin.Forward, 0, len(published))
	for _, f := range published {
		way, why := f.FTPS()
		t := s.SessionLog.ForwardStats(f.Name)
		key := sessions.ForwardKey{Forward: f.Name, Tracking: f.Tracking}
		status := admin.Forward{
			Name: f.Name, Listen: f.Listen.String(), Server: f.Server.String(), Addresses: f.ServerAddrs(),
			Tracking: f.Tracking.String(), DataPath: f.UsualPath(kernelUsable).String(),
			FTPS: way, FTPSWhy: why,
		}
		if f.Tracking != forward.TrackingNone {
			status.Counts = &admin.Counts{
				Sessions: running[key], Clients: clients[key], Total: t.Sessions, Refused: t.Refused,
				Transfers: int64(t.Transfers), Failed: int64(t.Failed), Up: t.Up, Down: t.Down,
			}
		}
		if len(status.Addresses) == 0 {
			status.Problem = "the server's name has no address"
		}
		s.addHealth(&status)
		all = append(all, status)
	}
	return all
}

// addHealth adds whether the server answers.
func (s *Source) addHealth(f *admin.Forward) {
	h := s.Health(f.Name)
	if !h.Known() {
		return
	}
	f.Health = &admin.Health{Answers: h.Answers, Since: h.Since, Checked: h.Checked, Why: h.Why,
		Remedy: h.Remedy}
	if !h.Answers {
		f.Problem = fmt.Sprintf("the server has not answered since %s: %s",
			h.Since.Local().Format(time.DateTime), h.Why)
	}
}

// certificates returns the certificates, with a warning for each that has expired or soon will.
func (s *Source) certificates(now time.Time) (all []admin.Certificate) {
	for _, e := range s.Expiries() {
		days := int(e.NotAfter.Sub(now).Hours() / 24)
		for _, f := range e.Forwards {
			c := admin.Certificate{Forward: f, File: e.File, Subject: e.Subject, Expires: e.NotAfter,
				DaysLeft: days}
			switch {
			case now.After(e.NotAfter):
				c.Warning = "has expired"
			case e.NotAfter.Sub(now) < tlskeys.WarnBefore:
				c.Warning = "expires soon"
			}
			all = append(all, c)
		}
	}
	return all
}
