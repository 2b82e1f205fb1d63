package daemon

import (
	"context"
	"sync"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/metrics"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/observe/transferlog"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/status"
)

// observability is the endpoints of a running daemon, and the data that they show besides the sessions.
type observability struct {
	metrics     *metrics.Metrics
	transferLog *transferlog.Log // nil: there is none
	server      *admin.Server    // listens, and does not answer yet; nil: none, or Serve owns it
	stopServer  context.CancelFunc
	answering   sync.WaitGroup
	status      *status.Source
}

// openEndpoints opens the transfer log and the admin API, and returns a finding for each that cannot be
// opened.
func (r *instance) openEndpoints() (findings []finding.Finding) {
	var err error
	files := transferlog.Settings{Transfers: r.Config.Log.Transfers, Xferlog: r.Config.Log.Xferlog,
		Log: r.Log}
	if r.transferLog, err = transferlog.Open(files); err != nil {
		findings = append(findings, finding.Finding{Text: err.Error()})
		r.transferLog = nil
	}
	r.metrics.Follow(r.Config.Forwards)
	r.sessionLog.Hooks = r.sessionHooks()
	a := r.Config.Admin
	if a.Socket == "" && a.Listen.Port == 0 {
		return findings
	}
	if r.server, err = admin.Listen(admin.Options{Socket: a.Socket, Group: a.Group, NeedGroup: a.GroupGiven,
		Listen: a.Listen, TokenFile: a.TokenFile}); err != nil {
		r.server = nil
		found := finding.Finding{Severity: finding.Warning,
			Text: "cannot open the " + err.Error() + ": status, sessions and explain will not work"}
		if a.SocketGiven || a.Listen.Port != 0 { // it was asked for
			found.Severity = finding.Fault
		}
		findings = append(findings, found)
	}
	return findings
}

// sessionHooks passes the events of sessions to metrics, and finished transfers also to the transfer log.
func (r *instance) sessionHooks() sessions.Hooks {
	m := r.metrics
	return sessions.Hooks{
		Began: m.SessionBegan, Dialled: m.Dialled, Banned: r.bans.Refuses,
		RulesRestored: func() time.Time { return r.repairer.State().Last },
		Opened:        m.PinholeOpened, Used: m.PinholeUsed, Unused: m.PinholeUnused,
		DataFailed: m.DataFailed, Finalized: r.logFinalized,
		Finished: func(t sessions.Transfer) {
			m.Finished(t)
			if r.transferLog != nil {
				r.transferLog.Add(t)
			}
		},
	}
}

// metricSources returns the sources that metrics reads at each scrape.
func (r *instance) metricSources() metrics.Sources {
	return metrics.Sources{
		Sessions: func() map[sessions.ForwardKey]int {
			running, _ := r.sessionLog.Counts()
			return running
		},
		Pinholes: func() (kernel, relay int) {
			kernel = r.sessionLog.Pinholes(forward.DataKernel.String())
			return kernel, r.sessionLog.Pinholes(forward.DataRelay.String())
		},
		Certificates: func() (all []metrics.Certificate) {
			roles := map[string]metrics.Role{"tls.cert": metrics.RoleCert,
				"tls.client_cert": metrics.RoleClientCert, "tls.ca": metrics.RoleCA,
				"tls.client_ca": metrics.RoleClientCA}
			for _, e := range r.keys.FileExpiries() {
				all = append(all,
					metrics.Certificate{Forward: e.Forward, Role: roles[e.Key], NotAfter: e.NotAfter})
			}
			return all
		},
		Answers: r.health.Answers,
		Banned:  func() (bans, denied int) { return len(r.bans.Bans()), r.bans.Denied() },
		Conntrack: func() (entries, limit uint64, known bool) {
			entries, limit, err := system.ConntrackFill()
			return entries, limit, err == nil
		},
	}
}

// serveAdmin answers the admin API from now on.
func (r *instance) serveAdmin() {
	if r.server == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stopServer = stop
	server := r.server
	r.server = nil // Serve closes it
	r.answering.Go(func() {
		if err := server.Serve(ctx, r.status, r.metrics.Handler(), r.Log); err != nil {
			r.Log.Error("admin API ended: status, sessions and explain no longer work", "err", err)
		}
	})
}

// flushTime bounds how long closeEndpoints waits for the disk.
const flushTime = 5 * time.Second

// closeEndpoints ends the admin API and flushes the transfer log. Call it after the last session has ended.
func (r *instance) closeEndpoints() {
	if r.stopServer != nil {
		r.stopServer()
		r.answering.Wait()
	}
	if r.server != nil {
		r.server.Close()
	}
	if r.transferLog != nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		if err := r.transferLog.Close(ctx); err != nil {
			r.Log.Error("transfers are missing from the transfer log", "err", err)
		}
	}
}

// reopenTransferLog opens the files of the transfer log again, after logrotate has moved them.
func (r *instance) reopenTransferLog() {
	if r.transferLog == nil {
		return
	}
	if err := r.transferLog.Reopen(); err != nil {
		r.Log.Error("transfer log not reopened", "err", err)
		return
	}
	r.Log.Info("transfer log reopened")
}
