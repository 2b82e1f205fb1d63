package loglimit

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// class is the class of a line, with limits of its own.
type class uint8

const (
	infos    class = iota // sessions that begin, encrypt and end
	warnings              // and errors: refusals and failures
	logins                // failed ones, which programs such as fail2ban count
	classes
)

// loginFailed is the message of a failed login (package refusal).
const loginFailed = "login failed"

func classOf(r slog.Record) class {
	switch {
	case r.Message == loginFailed:
		return logins
	case r.Level >= slog.LevelWarn:
		return warnings
	}
	return infos
}

// rate is how many lines may follow each other at once, and how long one more takes after that.
type rate struct {
	burst int
	every time.Duration
}

// The rates. They are high enough to find a fault and to ban clients by their warnings: the log has all
// sessions of an office behind one address, or of a device that connects every two seconds. Other lines never
// displace failed logins. A flood writes at most some 20 kB a second.
var (
	ofOne = [classes]rate{infos: {500, time.Second}, warnings: {200, 2 * time.Second},
		logins: {200, 2 * time.Second}}
	ofAll = [classes]rate{infos: {5000, 20 * time.Millisecond}, warnings: {5000, 100 * time.Millisecond},
		logins: {10000, 50 * time.Millisecond}}
)

const (
	// maxPeers is how many peers have budgets of their own at the same time, some 200 bytes each. Further
	// ones have only that of all.
	maxPeers = 4096
	// sweepTime is how often idle peers are removed.
	sweepTime = 10 * time.Second
	// maxReported is how many peers a report names.
	maxReported = 10
)

// budget is how many lines may still pass.
type budget struct {
	spent int       // of the rate's burst, at the time since
	since time.Time // zero: nothing is spent
}

// take uses one line of the budget; false: it is empty.
func (b *budget) take(r rate, now time.Time) bool {
	b.refill(r, now)
	if b.spent >= r.burst {
		return false
	}
	b.spent++
	return true
}

// refill adds the lines of the time since.
func (b *budget) refill(r rate, now time.Time) {
	if back := int(now.Sub(b.since) / r.every); b.spent == 0 || back >= b.spent {
		b.spent, b.since = 0, now
	} else if back > 0 {
		b.spent, b.since = b.spent-back, b.since.Add(time.Duration(back)*r.every)
	}
}

// lines are numbers of lines.
type lines [classes]int

func (l lines) sum() int { return l[infos] + l[warnings] + l[logins] }

// peer is the state of one peer.
type peer struct {
	budgets [classes]budget
	leftOut lines // since the last report
}

// idle reports whether a peer has the state of a new one.
func (p *peer) idle(now time.Time) bool {
	for c, r := range ofOne {
		p.budgets[c].refill(r, now)
	}
	for _, b := range p.budgets {
		if b.spent > 0 {
			return false
		}
	}
	return p.leftOut == lines{}
}

// peers are the budgets of all peers.
type peers struct {
	mu     sync.Mutex
	all    [classes]budget
	known  map[string]*peer
	others peer // all without budgets of their own; only leftOut counts
	swept  time.Time
}

func newPeers() *peers { return &peers{known: map[string]*peer{}} }

// admit reports whether a line about a peer passes. It counts those that do not.
func (p *peers) admit(name string, now time.Time, c class) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	of, own := p.find(name, now)
	if own && !of.budgets[c].take(ofOne[c], now) || !p.all[c].take(ofAll[c], now) {
		of.leftOut[c]++
		return false
	}
	return true
}

// find returns a peer, and whether it has budgets of its own. It is called with the lock held.
func (p *peers) find(name string, now time.Time) (of *peer, own bool) {
	if of = p.known[name]; of != nil {
		return of, true
	}
	if len(p.known) >= maxPeers && now.Sub(p.swept) >= sweepTime {
		p.sweep(now)
	}
	if len(p.known) >= maxPeers {
		return &p.others, false
	}
	of = &peer{}
	p.known[name] = of
	return of, true
}

// sweep forgets the peers that are idle. It is called with the lock held.
func (p *peers) sweep(now time.Time) {
	p.swept = now
	for name, of := range p.known {
		if of.idle(now) {
			delete(p.known, name)
		}
	}
}

// leftOut is how many lines about a peer were left out, or about several.
type leftOut struct {
	peer  string
	peers int // how many, at least, in place of peer; 0: it is one
	lines lines
}

// takeLeftOut returns and resets the numbers of omitted lines, the peers with most of them first.
func (p *peers) takeLeftOut(now time.Time) (all []leftOut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, of := range p.known {
		if of.leftOut != (lines{}) {
			all = append(all, leftOut{peer: name, lines: of.leftOut})
			of.leftOut = lines{}
		}
	}
	p.sweep(now)
	slices.SortFunc(all, func(a, b leftOut) int {
		return cmp.Or(cmp.Compare(b.lines.sum(), a.lines.sum()), cmp.Compare(a.peer, b.peer))
	})
	rest := leftOut{lines: p.others.leftOut}
	if p.others.leftOut = (lines{}); rest.lines != (lines{}) {
		rest.peers = 1
	}
	for len(all) > maxReported {
		last := all[len(all)-1]
		all = all[:len(all)-1]
		rest.peers++
		for c, n := range last.lines {
			rest.lines[c] += n
		}
	}
	if rest.peers > 0 {
		all = append(all, rest)
	}
	return all
}
