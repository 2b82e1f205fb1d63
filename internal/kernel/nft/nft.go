// Package nft installs ftpgate's tables in the kernel through netlink, and lists the tables that are
// installed.
//
// It changes ftpgate's own tables only (ruleset.OwnTable). Each change is one transaction: either the whole
// ruleset is in force or none of it. Package ruleset decides what a table holds.
//
// Locks: Conn.mu, held for one request to the kernel at a time: only callers that change or list tables wait.
package nft

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/google/nftables"
	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

// socketBuffer is the size of a socket's buffers in bytes. It holds a transaction of ten thousand forwards
// and the kernel's answers; the default size fails with EMSGSIZE.
const socketBuffer = 16 << 20

// Conn is a connection to the nftables of the network namespace that Open was called in. Several goroutines
// may use it at once: their requests to the kernel wait for each other.
type Conn struct {
	// KeepNAT makes a second table keep running connections translated while another program flushes the
	// ruleset (keepNAT). Set it before use.
	KeepNAT bool
	// OnChanged is called when another program has changed a table while Apply or Repair installed it, and
	// it is installed again. It may be nil. Set it before use.
	OnChanged func(table string, err error)

	mu       sync.Mutex     // one request to the kernel at a time; guards what follows
	write    *mdlayher.Conn // nil after a batchError: send opens a new one
	read     *nftables.Conn
	current  *ruleset.Table // the table that Apply installed last; nil: none
	natOwner *mdlayher.Conn // owns the table of keepNAT
	natKept  bool           // that table is installed
	cutLogs  bool           // the kernel cannot log packets (Probe): tables have no rules that do
	sent     func()         // is called before a table is verified; nil but in tests
}

// Open connects to the kernel. It needs no privilege; the kernel asks for CAP_NET_ADMIN at the first change
// or list. The caller closes the connection.
func Open() (*Conn, error) {
	write, err := dial()
	if err != nil {
		return nil, err
	}
	read, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(enlarge))
	if err != nil {
		write.Close()
		return nil, fmt.Errorf("nft: open netlink: %w", err)
	}
	natOwner, err := dial()
	if err != nil {
		return nil, errors.Join(err, write.Close(), read.CloseLasting())
	}
	return &Conn{write: write, read: read, natOwner: natOwner}, nil
}

func dial() (c *mdlayher.Conn, err error) {
	err = netlink.BindOwn(func(portID uint32) (err error) {
		c, err = mdlayher.Dial(unix.NETLINK_NETFILTER, &mdlayher.Config{PID: portID})
		return netlink.Errno(err)
	})
	if err != nil {
		return nil, fmt.Errorf("nft: open netlink: %w", err)
	}
	if err := enlarge(c); err != nil {
		c.Close()
		return nil, fmt.Errorf("nft: netlink buffers: %w", err)
	}
	return c, nil
}

// send runs a transaction. After a batchError the next call opens a new connection.
func (c *Conn) send(b *batch) error {
	if err := c.redial(); err != nil {
		return err
	}
	err := b.send(c.write)
	if whole := (batchError{}); errors.As(err, &whole) {
		c.write.Close()
		c.write = nil
	}
	return err
}

// redial opens the connection for transactions where there is none.
func (c *Conn) redial() (err error) {
	if c.write == nil {
		c.write, err = dial()
	}
	return err
}

func enlarge(c *mdlayher.Conn) error {
	if err := c.SetWriteBuffer(socketBuffer); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("setsockopt", c.SetReadBuffer(socketBuffer))
}

// Close ends the connection. Installed tables stay in the kernel.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(c.read.CloseLasting(), c.natOwner.Close())
	if c.write != nil {
		err = errors.Join(err, c.write.Close())
	}
	return err
}

// Apply makes the kernel's table equal to t, in one transaction. The first call replaces any table of t's
// name, and removes the tables in obsolete. Later calls send only the difference from the call before; if the
// difference does not fit, because another program changed the table, they replace it. After an error the
// kernel's table is unchanged.
func (c *Conn) Apply(t ruleset.Table, obsolete ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t = c.supported(t)
	if c.KeepNAT && !c.natKept {
		c.keepNAT(t.Name)
	}
	if c.current != nil && c.current.Name == t.Name && len(obsolete) == 0 {
		b := newBatch()
		b.update(*c.current, t)
		if c.send(b) == nil {
			c.current = &t
			return nil
		}
	}
	return c.replace(t, obsolete)
}

// installations bounds how often a table is installed that another program changes meanwhile.
const installations = 5

// replace installs a whole table and verifies it. If elements are missing, another program has changed it:
// replace starts again, and at last brings back the table from before.
func (c *Conn) replace(t ruleset.Table, obsolete []string) error {
	before := c.current
	for n := 1; ; n++ {
		if err := c.install(t, obsolete); err != nil {
			return err
		}
		c.current = &t
		err := c.verify(t)
		switch {
		case err == nil:
			return nil
		case n < installations:
			if n == 1 && c.OnChanged != nil {
				c.OnChanged(t.Name, err)
			}
			continue
		}
		if c.current = nil; before != nil {
			return errors.Join(err, c.install(*before, nil))
		}
		return errors.Join(err, c.remove(t.Name))
	}
}

// install installs a whole table, and removes the obsolete ones.
func (c *Conn) install(t ruleset.Table, obsolete []string) error {
	b := newBatch()
	for _, name := range append(obsolete, t.Name) {
		if !ruleset.OwnTable(name) {
			return fmt.Errorf("nft: table %s is not ftpgate's own", name)
		}
		b.dropTable(name)
	}
	b.addTable(t)
	err := c.send(b)
	if err == nil && c.sent != nil {
		c.sent()
	}
	return err
}

// verify compares the number of elements in the kernel with that of the table. It skips sets whose elements
// other packages add and remove, and bans.
func (c *Conn) verify(t ruleset.Table) error {
	for _, s := range t.Sets {
		if s.Timeout || s.Expires { // to list a large set of bans takes seconds
			continue
		}
		elements, err := c.read.GetSetElements(libSet(t.Name, s))
		if err != nil {
			return fmt.Errorf("nft: list set %s: %w", s.Name, netlink.Errno(err))
		}
		if len(elements) != len(s.Elements) {
			return fmt.Errorf("nft: set %s has %d elements in the kernel: want %d",
				s.Name, len(elements), len(s.Elements))
		}
	}
	return nil
}

// Remove removes a table. It is no error if there is none.
func (c *Conn) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remove(name)
}

func (c *Conn) remove(name string) error {
	if !ruleset.OwnTable(name) {
		return fmt.Errorf("nft: table %s is not ftpgate's own", name)
	}
	b := newBatch()
	b.dropTable(name)
	if c.current != nil && c.current.Name == name {
		c.current = nil
		return errors.Join(c.send(b), c.releaseNAT(name))
	}
	return c.send(b)
}

// Probe reports whether the kernel supports a table, with a transaction that leaves nothing behind. The error
// names the operations that the kernel refuses. A kernel that only cannot log packets is no error: from then
// on, Apply and Repair leave out the rules that log.
func (c *Conn) Probe(t ruleset.Table) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.try(t)
	c.cutLogs = err != nil && c.try(t.WithoutLog()) == nil
	if c.cutLogs {
		return nil
	}
	return err
}

// supported returns the part of a table that the kernel supports.
func (c *Conn) supported(t ruleset.Table) ruleset.Table {
	if c.cutLogs {
		return t.WithoutLog()
	}
	return t
}

// try makes the kernel check a table in a transaction that changes nothing.
func (c *Conn) try(t ruleset.Table) error {
	t.Name = fmt.Sprintf("%s-probe-%d", ruleset.DefaultTable, os.Getpid())
	b := newBatch()
	b.addTable(t)
	b.enc.DelTable(libTable(t.Name))
	b.operation("delete table %s", t.Name)
	return c.send(b)
}

// update queues the difference between two versions of a table. An object must be added before the objects
// that use it, and deleted after them: the helper, sets, then chains with rules.
func (b *batch) update(from, to ruleset.Table) {
	if to.Helper && !from.Helper {
		b.addHelper(to.Name)
	}
	old := map[string]ruleset.Set{}
	for _, s := range from.Sets {
		old[s.Name] = s
	}
	for _, s := range to.Sets {
		before, kept := old[s.Name]
		if !kept {
			b.addSet(to.Name, s)
			continue
		}
		delete(old, s.Name)
		removed, added := difference(before.Elements, s.Elements)
		set := libSet(to.Name, s)
		b.deleteElements(set, s, removed)
		b.addElements(set, s, added)
	}
	b.updateChains(from, to)
	for _, s := range from.Sets {
		if _, unused := old[s.Name]; unused {
			b.enc.DelSet(libSet(to.Name, s))
			b.operation("delete set %s", s.Name)
		}
	}
	if from.Helper && !to.Helper {
		b.deleteHelper(to.Name)
	}
}

func (b *batch) updateChains(from, to ruleset.Table) {
	old := map[string]ruleset.Chain{}
	for _, c := range from.Chains {
		old[c.Name] = c
	}
	for _, c := range to.Chains {
		before, kept := old[c.Name]
		delete(old, c.Name)
		switch {
		case !kept:
			b.addChain(to.Name, c)
		case rulesText(before) == rulesText(c):
			continue
		default:
			b.enc.FlushChain(libChain(to.Name, c))
			b.operation("flush chain %s", c.Name)
		}
		b.addRules(to.Name, c)
	}
	for _, c := range from.Chains {
		if _, unused := old[c.Name]; unused {
			b.enc.FlushChain(libChain(to.Name, c))
			b.operation("flush chain %s", c.Name)
			b.enc.DelChain(libChain(to.Name, c))
			b.operation("delete chain %s", c.Name)
		}
	}
}

func rulesText(c ruleset.Chain) string {
	var b strings.Builder
	for _, r := range c.Rules {
		b.WriteString(r.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// difference returns the elements that are in one of two sorted lists only.
func difference(before, after []ruleset.Element) (removed, added []ruleset.Element) {
	for len(before) > 0 && len(after) > 0 {
		order := before[0].Compare(after[0])
		same := before[0] == after[0]
		if order <= 0 {
			if !same {
				removed = append(removed, before[0])
			}
			before = before[1:]
		}
		if order >= 0 {
			if !same {
				added = append(added, after[0])
			}
			after = after[1:]
		}
	}
	return append(removed, before...), append(added, after...)
}
