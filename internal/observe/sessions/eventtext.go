package sessions

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"ftpgate/internal/core/verdict"
)

// serverConnected is the event text of a session that has its server.
type serverConnected struct {
	server netip.AddrPort
	took   time.Duration // of dialling
}

// String says which address answered, and how fast.
func (c *serverConnected) String() string {
	return fmt.Sprintf("connected to %s after %s", c.server, verdict.Round(c.took))
}

// pinholeOpened is the event text of a pinhole or a bridge.
type pinholeOpened struct {
	path           string
	from, sourceIP netip.Addr
	listen, target netip.AddrPort
	took           time.Duration
}

// String says which peer can connect, and the target.
func (o *pinholeOpened) String() string {
	if !o.listen.IsValid() {
		return fmt.Sprintf("the gateway connects to the server at %s and to the client at %s (%s)",
			o.target, o.from, o.path)
	}
	return fmt.Sprintf("opened by the %s in %s: %s can connect to %s; the gateway forwards to %s from %s",
		o.path, verdict.Round(o.took), o.from, o.listen, o.target, o.sourceIP)
}

// dataConnected is the event text of a data connection that is established.
type dataConnected struct {
	after          time.Duration
	active, bridge bool
}

// String says who connected, and when.
func (c dataConnected) String() string {
	who := "the client"
	switch {
	case c.bridge:
		return "both ends are connected to"
	case c.active:
		who = "the server"
	}
	return fmt.Sprintf("%s connected %s after the pinhole was opened", who, verdict.Round(c.after))
}

// transferEnded is the event text of a transfer that is over.
type transferEnded struct {
	verb     string
	complete bool
	bytes    int64
	took     time.Duration
}

// String says how it ended.
func (o transferEnded) String() string {
	word := "failed"
	if o.complete {
		word = "complete"
	}
	return fmt.Sprintf("%s %s: %d bytes in %s", cmp.Or(o.verb, "a transfer"), word, o.bytes,
		verdict.Round(o.took))
}
