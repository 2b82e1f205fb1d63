package daemon

import (
	"context"
	"runtime"
	"sync"
	"time"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/metrics"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/observe/transferlog"
	"ftpgate/internal/ops/admin"
)

// Show is where a daemon shows what it does.
type Show struct {
	Version   string
	File      string         // the configuration; empty: there is none
	Admin     *admin.Options // nil: nobody can ask
	MustAdmin bool           // without that it does not start
	Transfers transferlog.Settings
}

// shown is what shows it.
type shown struct {
	metrics   *metrics.Metrics
	server    *admin.Server // nil: nobody can ask
	transfers *transferlog.Log
	stopAdmin context.CancelFunc
	answering sync.WaitGroup

	mu         sync.Mutex
	lastReload *admin.Reload
	tables     bool // the kernel may carry data
	noTables   []finding.Finding
}

// openShow opens where things are shown, and says what is in the way.
func (r *running) openShow() (findings []finding.Finding) {
	var err error
	r.Show.Transfers.Log = r.Log
	if r.transfers, err = transferlog.Open(r.Show.Transfers); err != nil {
		findings = append(findings, finding.Finding{Text: err.Error()})
		r.transfers = nil
	}
	r.metrics = metrics.New(metrics.Build{Version: r.Show.Version, GoVersion: runtime.Version()}, refusalWords(), r.sources())
	r.follows()
	if r.Show.Admin == nil {
		return findings
	}
	if r.server, err = admin.Listen(*r.Show.Admin); err != nil {
		r.server = nil
		findings = append(findings, finding.Finding{Text: "nobody can ask this ftpgate: " + err.Error(), Severity: severity(!r.Show.MustAdmin)})
	}
	return findings
}

// refusalWords are the words of refusals, for a counter each.
func refusalWords() (words []string) {
	for kind := dialogue.NotRefused + 1; kind < dialogue.RefusalKinds; kind++ {
		words = append(words, kind.String())
	}
	return words
}

// follows has those who show things told of what happens.
func (r *running) follows() {
	m := r.metrics
	r.book.Hooks = sessions.Hooks{
		Began: m.SessionBegan, Dialled: m.Dialled, Opened: m.PinholeOpened, Used: m.PinholeUsed, Unused: m.PinholeExpired,
		Finished: func(t sessions.Transfer) {
			m.Finished(t)
			if r.transfers != nil {
				r.transfers.Add(t)
			}
		},
	}
	r.proxies.Refused = func(f forward.Resolved, kind dialogue.RefusalKind) { m.Refused(f.Name, kind.String()) }
	plain := make([]forward.Forward, len(r.Forwards))
	copy(plain, r.Forwards)
	m.Follow(plain)
}

// sources is what metrics asks for when somebody asks it.
func (r *running) sources() metrics.Sources {
	return metrics.Sources{
		Sessions: func() (all []metrics.SessionCount) {
			sessions, _ := r.book.Counts()
			for at, n := range sessions {
				all = append(all, metrics.SessionCount{Forward: at.Forward, Tracking: at.Tracking, Running: n})
			}
			return all
		},
		Pinholes: func() (kernel, relay int) {
			return r.book.Pinholes(forward.DataKernel.String()), r.book.Pinholes(forward.DataRelay.String())
		},
		Certificates: func() (all []metrics.Certificate) {
			for _, e := range r.keys.Expiries() {
				for _, f := range e.Forwards {
					all = append(all, metrics.Certificate{Forward: f, Role: metrics.RoleCert, NotAfter: e.NotAfter})
				}
			}
			return all
		},
		Conntrack: func() (entries, limit uint64, known bool) {
			entries, limit, err := system.ConntrackFill()
			return entries, limit, err == nil
		},
	}
}

// answer has whoever asks answered, from now on.
func (r *running) answer() {
	if r.server == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stopAdmin = stop
	server := r.server
	r.server = nil // it closes itself
	r.answering.Go(func() {
		if err := server.Serve(ctx, source{r}, r.metrics.Handler(), r.Log); err != nil {
			r.Log.Error("nobody can ask this ftpgate any more", "err", err)
		}
	})
}

// flushTime bounds what the end waits for a disk.
const flushTime = 5 * time.Second

// closeShow ends it, after all that is to be shown has happened.
func (r *running) closeShow() {
	if r.stopAdmin != nil {
		r.stopAdmin()
		r.answering.Wait()
	}
	if r.server != nil {
		r.server.Close()
	}
	if r.transfers != nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		if err := r.transfers.Close(ctx); err != nil {
			r.Log.Error("transfers are missing in the log of transfers", "err", err)
		}
	}
}

// reopen opens the logs of transfers anew, after somebody has moved them away.
func (r *running) reopen() {
	if r.transfers == nil {
		return
	}
	if err := r.transfers.Reopen(); err != nil {
		r.Log.Error("log of transfers not reopened", "err", err)
		return
	}
	r.Log.Info("log of transfers reopened")
}

// reloaded keeps what came of a reload.
func (r *running) reloaded(at time.Time, err error) {
	r.metrics.Reloaded(at, err)
	last := &admin.Reload{At: at, OK: err == nil}
	if err != nil {
		last.Error = err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastReload = last
}
