package dialogue

import (
	"iter"
	"sync/atomic"
)

// Refusal is the kind of what is refused, put right or cut off: each has a counter.
type Refusal uint8

// The kinds of refusals.
const (
	NotRefused      Refusal = iota
	RefusedClient           // a client that may not use the forward
	RefusedLimit            // too many sessions
	RefusedDrain            // a client that comes while the gateway shuts down
	RefusedServer           // the server is not reached, says nothing, or has gone
	RefusedTime             // no login, no command or no reading within the limit
	RefusedLine             // a line that is none: too long, with a NUL, no command, a reply from the client
	RefusedLogin            // a login that the server did not take
	RefusedEarly            // a data command before login
	RefusedCommand          // a command that cannot work here or now
	RefusedSecurity         // AUTH, and what comes after it (RFC 2228)
	RefusedFamily           // an address family that is not the connection's
	RefusedAddress          // PORT or EPRT to somebody else
	RefusedPort             // a data connection to a service's port
	RefusedReply            // a reply that nobody asked for
	RefusedAnswer           // a reply that does not fit its command, or is none
	RefusedNoPort           // the data path has no pinhole
	RefusedTransfer         // a data connection that broke
	Refusals                // how many kinds there are
)

// words are the kinds as logs and metrics call them. They are part of the interface: dashboards know them.
var words = [Refusals]string{
	NotRefused:      "none",
	RefusedClient:   "client",
	RefusedLimit:    "limit",
	RefusedDrain:    "drain",
	RefusedServer:   "unreachable",
	RefusedTime:     "time",
	RefusedLine:     "line",
	RefusedLogin:    "login",
	RefusedEarly:    "not_logged_in",
	RefusedCommand:  "command",
	RefusedSecurity: "encryption",
	RefusedFamily:   "family",
	RefusedAddress:  "address",
	RefusedPort:     "port",
	RefusedReply:    "unasked_reply",
	RefusedAnswer:   "bad_reply",
	RefusedNoPort:   "no_port",
	RefusedTransfer: "broken_transfer",
}

// String returns a stable word in snake case.
func (r Refusal) String() string {
	if r < Refusals {
		return words[r]
	}
	return "unknown"
}

// Counts is what the sessions of any number of forwards have come to. The zero value is ready, a nil
// one counts nothing, and all of it may be used by several goroutines at once.
type Counts struct {
	begun, transfers, failures atomic.Uint64
	running                    atomic.Int64
	refused                    [Refusals]atomic.Uint64
}

// Sessions returns how many clients were let in since the start.
func (c *Counts) Sessions() uint64 { return c.begun.Load() }

// Running returns how many of them are here now.
func (c *Counts) Running() int64 { return c.running.Load() }

// Transfers returns how many transfers were completed.
func (c *Counts) Transfers() uint64 { return c.transfers.Load() }

// FailedLogins returns how many logins the servers did not take.
func (c *Counts) FailedLogins() uint64 { return c.failures.Load() }

// Refused yields every kind with how often it came, those that never did too.
func (c *Counts) Refused() iter.Seq2[Refusal, uint64] {
	return func(yield func(Refusal, uint64) bool) {
		for r := NotRefused + 1; r < Refusals; r++ {
			if !yield(r, c.refused[r].Load()) {
				return
			}
		}
	}
}

func (c *Counts) Begin() {
	if c != nil {
		c.begun.Add(1)
		c.running.Add(1)
	}
}

func (c *Counts) End() {
	if c != nil {
		c.running.Add(-1)
	}
}

func (c *Counts) Transfer() {
	if c != nil {
		c.transfers.Add(1)
	}
}

func (c *Counts) Refuse(r Refusal) {
	if c == nil {
		return
	}
	c.refused[r].Add(1)
	if r == RefusedLogin {
		c.failures.Add(1)
	}
}
