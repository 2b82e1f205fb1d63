// Package loglimit bounds what peers can write into the log. It passes a limited number of lines about each
// client and about all clients together, and counts the others for Report. It cuts long values, which a peer
// may have chosen.
//
// A line is about a peer if it has the attribute client or peer. A warning is also about a peer if it has the
// attribute by (a client of the admin API) or listen (a socket that accepts). All other lines pass unchanged,
// as do Debug lines, which an operator has asked for.
//
// Locks: that of the budgets is a leaf. No line is written while it is held.
package loglimit

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"ftpgate/internal/core/forward"
)

// maxValue is how many bytes of a value are logged: more than any sentence of ftpgate's own.
const maxValue = 512

// Handler is a slog.Handler for lines about peers. Several goroutines may use it at once.
type Handler struct {
	next  slog.Handler
	peers *peers // shared with the handlers that are derived from this one
	about []slog.Attr
}

// New returns a handler that passes records on to next.
func New(next slog.Handler) *Handler { return &Handler{next: next, peers: newPeers()} }

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler. The record's time is the clock.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	peer := h.peerOf(r)
	if peer == "" {
		return h.next.Handle(ctx, r)
	}
	if r.Level >= slog.LevelInfo && !h.peers.admit(peer, r.Time, classOf(r)) {
		return nil
	}
	return h.next.Handle(ctx, shortened(r))
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	about := append(append([]slog.Attr(nil), h.about...), attrs...)
	return &Handler{h.next.WithAttrs(attrs), h.peers, about}
}

// WithGroup implements slog.Handler. Attributes within a group name no peer.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.peers, h.about}
}

// Report logs how many lines were left out since the last Report: a line for each of the peers with the most,
// and one for all others.
func (h *Handler) Report(now time.Time) {
	log := slog.New(h.next)
	for _, l := range h.peers.takeLeftOut(now) {
		if l.peers == 0 {
			log.Warn("the log leaves out lines about a peer: there are too many", "peer", l.peer,
				"failed_logins", l.lines[logins], "warnings", l.lines[warnings], "others", l.lines[infos])
			continue
		}
		log.Warn("the log leaves out lines about more peers: there are too many", "peers", l.peers,
			"failed_logins", l.lines[logins], "warnings", l.lines[warnings], "others", l.lines[infos])
	}
}

// peerOf returns the peer that a line is about; "": it is about none.
func (h *Handler) peerOf(r slog.Record) (peer string) {
	find := func(a slog.Attr) bool {
		switch a.Key {
		case "client", "peer":
			peer = hostOf(a.Value.String())
		case "by", "listen":
			if r.Level >= slog.LevelWarn {
				peer = hostOf(a.Value.String())
			}
		}
		return peer == ""
	}
	for _, a := range h.about {
		find(a)
	}
	if peer == "" {
		r.Attrs(find)
	}
	return peer
}

// hostOf returns an address without its port, of IPv6 the network; or the user of a text such as "user 0,
// process 4711".
func hostOf(text string) string {
	addr, err := netip.ParseAddr(text)
	if at, errAt := netip.ParseAddrPort(text); errAt == nil {
		addr, err = at.Addr(), nil
	}
	if err != nil {
		user, _, _ := strings.Cut(text, ",")
		return user
	}
	network := forward.ClientNetwork(addr, forward.DefaultIPv6Prefix)
	if network.IsSingleIP() {
		return network.Addr().String()
	}
	return network.String()
}

// shortened returns a record without the ends of long values.
func shortened(r slog.Record) slog.Record {
	long := false
	r.Attrs(func(a slog.Attr) bool {
		_, long = short(a)
		return !long
	})
	if !long {
		return r
	}
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		a, _ = short(a)
		out.AddAttrs(a)
		return true
	})
	return out
}

// short returns an attribute whose value is not too long, and whether it was.
func short(a slog.Attr) (_ slog.Attr, was bool) {
	if k := a.Value.Kind(); k != slog.KindString && k != slog.KindAny {
		return a, false
	}
	text := a.Value.String()
	if len(text) <= maxValue {
		return a, false
	}
	head := strings.ToValidUTF8(text[:maxValue], "")
	return slog.String(a.Key, fmt.Sprintf("%s... (%d bytes)", head, len(text))), true
}
