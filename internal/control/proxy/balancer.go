package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
	"ftpgate/internal/control/session"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/proxyprotocol"
)

// maxHeaders is how many connections of balancers may wait for their header at once. A balancer sends it at
// once, so that more of them show a fault or an attack.
const maxHeaders = 1024

// record begins the record of a client's connection.
func (p *Proxy) record(f forward.Resolved, client conn.Accepted) *sessions.Record {
	start := sessions.Start{
		Forward: f.Name, Tracking: f.Tracking, Passive: f.DataPorts(),
		Client: client.Client, Gateway: client.Dialled, Balancer: client.Balancer,
		ClientTLS: f.TLS.Implicit,
	}
	if client.Balancer.IsValid() {
		start.Gateway, start.Dialled = conn.AddrPort(client.LocalAddr()), client.Dialled
	}
	return p.SessionLog.Begin(start)
}

// identify reads the header of a balancer's connection, which says who the client is; false: there is no
// client, and the connection is closed.
func (p *Proxy) identify(draining context.Context, f forward.Resolved, client *conn.Accepted) bool {
	if p.Banned != nil && p.Banned(client.Client.Addr()) {
		p.rejectUnidentified(f, *client, refusal.New(verdict.RefusedBanned, "", session.Banned))
		return false
	}
	if !p.beginHeader() {
		p.rejectUnidentified(f, *client, refusal.New(verdict.RefusedLimit, "", "too many connections wait "+
			"for their PROXY protocol header"))
		return false
	}
	local, err := client.ReadHeader(draining, cmp.Or(p.headerTime, proxyprotocol.ReadTime))
	p.endHeader()
	switch {
	case draining.Err() != nil:
		why := session.DrainRefusal(context.Cause(draining))
		why.Kind = verdict.RefusedDrain
		p.rejectUnidentified(f, *client, why)
	case errors.Is(err, proxyprotocol.ErrNone), errors.Is(err, unix.ECONNRESET):
		p.logCheck(f, *client, "connected and sent nothing")
		client.Close()
	case err != nil:
		p.rejectUnidentified(f, *client, badHeader(err))
	case local:
		p.answerCheck(f, *client)
	default:
		return true
	}
	return false
}

// badHeader returns the refusal for a header that could not be read.
func badHeader(err error) refusal.Refusal {
	r := refusal.New(verdict.RefusedProxyHeader, "", "the balancer sent no valid PROXY protocol header")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r = refusal.New(verdict.RefusedProxyHeader, "", "the balancer sent no PROXY protocol header in time")
	}
	r.Err = err
	return r
}

// rejectUnidentified rejects a balancer's connection whose client is not known.
func (p *Proxy) rejectUnidentified(f forward.Resolved, client conn.Accepted, why refusal.Refusal) {
	client.Balancer = client.Client
	p.reject(f, client, p.record(f, client), why)
}

// answerCheck answers a connection that a balancer opened for itself, to see whether the gateway serves: with
// a greeting, which is no session. A client that begins with TLS is not greeted.
func (p *Proxy) answerCheck(f forward.Resolved, client conn.Accepted) {
	p.logCheck(f, client, "sent a header without a client")
	_ = client.SetWriteDeadline(time.Now().Add(conn.LingerTime))
	if !f.TLS.Implicit {
		_, _ = io.WriteString(client, "220 ftpgate is ready\r\n")
	}
	client.Control().HangUp()
}

func (p *Proxy) logCheck(f forward.Resolved, client conn.Accepted, what string) {
	p.Log.Debug("a balancer checks the gateway", slog.String("forward", f.Name),
		slog.String("balancer", client.Client.String()), slog.String("what", what))
}

// beginHeader counts a connection that waits for its header; false: there are too many.
func (p *Proxy) beginHeader() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.headers >= maxHeaders {
		return false
	}
	p.headers++
	return true
}

func (p *Proxy) endHeader() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.headers--
}
