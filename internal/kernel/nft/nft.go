// Package nft installs tables in the kernel and looks at what is there, through netlink.
//
// It changes only tables of ftpgate's own (OwnTable), each change in one transaction: a ruleset is
// in force as a whole or not at all. It decides nothing about what a table holds; that is ruleset's.
package nft

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
)

// socketBuffer holds a transaction of ten thousand forwards and the kernel's answers to it, in
// bytes; the default gives EMSGSIZE.
const socketBuffer = 16 << 20

// Prefix is how the names of ftpgate's tables begin.
const Prefix = "ftpgate"

// OwnTable tells whether a table is one of ftpgate's by its name: "ftpgate", which the daemon has,
// or "ftpgate-...", which single forwards have.
func OwnTable(name string) bool {
	return name == Prefix || strings.HasPrefix(name, Prefix+"-")
}

// Conn is a connection to the nftables of the network namespace that Open was called in. It is not
// for use by several goroutines at once.
type Conn struct {
	write   *netlink.Conn // nil: to be opened again
	Read    *nftables.Conn
	current *ruleset.Table // what Apply has installed; nil before
}

// Open connects to the kernel. It needs no privilege yet; the kernel asks for CAP_NET_ADMIN with
// the first change or look. The caller closes the connection.
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
	return &Conn{write: write, Read: read}, nil
}

func dial() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nft: open netlink: %w", err)
	}
	if err := enlarge(c); err != nil {
		c.Close()
		return nil, fmt.Errorf("nft: netlink buffers: %w", err)
	}
	return c, nil
}

// send runs a transaction. After an answer that leaves the connection in doubt it is opened again.
func (c *Conn) send(b *batch) (err error) {
	if c.write == nil {
		if c.write, err = dial(); err != nil {
			return err
		}
	}
	err = b.send(c.write)
	if whole := (batchError{}); errors.As(err, &whole) {
		c.write.Close()
		c.write = nil
	}
	return err
}

func enlarge(c *netlink.Conn) error {
	if err := c.SetWriteBuffer(socketBuffer); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("setsockopt", c.SetReadBuffer(socketBuffer))
}

// Close ends the connection. What was installed stays in the kernel.
func (c *Conn) Close() error {
	err := c.Read.CloseLasting()
	if c.write != nil {
		err = errors.Join(err, c.write.Close())
	}
	return err
}

// Apply brings a table of the kernel to what t says, in one transaction. The first call replaces
// whatever stands there under t's name, and removes the tables in sweep; later ones send only what
// differs from the call before. If somebody else has changed the table meanwhile so that the
// difference does not fit, it is replaced. After an error the kernel's table is as it was.
func (c *Conn) Apply(t ruleset.Table, sweep ...string) error {
	if c.current != nil && c.current.Name == t.Name && len(sweep) == 0 {
		b, err := newBatch()
		if err != nil {
			return err
		}
		b.update(*c.current, t)
		if c.send(b) == nil {
			c.current = &t
			return nil
		}
	}
	return c.replace(t, sweep)
}

// replace installs the whole table, and makes sure that all of it has arrived; else it brings back
// what was there before.
func (c *Conn) replace(t ruleset.Table, sweep []string) error {
	b, err := newBatch()
	if err != nil {
		return err
	}
	for _, name := range append(sweep, t.Name) {
		if !OwnTable(name) {
			return fmt.Errorf("nft: table %s is not ftpgate's own", name)
		}
		b.dropTable(name)
	}
	b.addTable(t)
	if err := c.send(b); err != nil {
		return err
	}
	before := c.current
	c.current = &t
	if err = c.verify(t); err == nil {
		return nil
	}
	if c.current = nil; before != nil {
		return errors.Join(err, c.replace(*before, nil))
	}
	return errors.Join(err, c.Remove(t.Name))
}

// verify counts what the kernel has of a table's elements. Those that come and go are not the table's.
func (c *Conn) verify(t ruleset.Table) error {
	for _, s := range t.Sets {
		if s.Timeout {
			continue
		}
		elements, err := c.Read.GetSetElements(libSet(t.Name, s))
		if err != nil {
			return fmt.Errorf("nft: list set %s: %w", s.Name, Errno(err))
		}
		if len(elements) != len(s.Elements) {
			return fmt.Errorf("nft: set %s has %d elements in the kernel: want %d", s.Name, len(elements), len(s.Elements))
		}
	}
	return nil
}

// Remove takes a table away; one that is not there is no error.
func (c *Conn) Remove(name string) error {
	if !OwnTable(name) {
		return fmt.Errorf("nft: table %s is not ftpgate's own", name)
	}
	b, err := newBatch()
	if err != nil {
		return err
	}
	b.dropTable(name)
	if c.current != nil && c.current.Name == name {
		c.current = nil
	}
	return c.send(b)
}

// Probe asks the kernel for everything that a table may need, in a transaction that leaves nothing
// behind. The error names what the kernel lacks.
func (c *Conn) Probe(t ruleset.Table) error {
	t.Name = fmt.Sprintf("%s-probe-%d", Prefix, os.Getpid())
	b, err := newBatch()
	if err != nil {
		return err
	}
	b.addTable(t)
	b.enc.DelTable(libTable(t.Name))
	b.did("delete table %s", t.Name)
	return c.send(b)
}

// update queues what leads from one version of a table to the next. What is used must be there
// before its user and go after it: helper, sets, then chains and rules.
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
		gone, come := difference(before.Elements, s.Elements)
		set := libSet(to.Name, s)
		b.deleteElements(set, s, gone)
		b.addElements(set, s, come)
	}
	b.updateChains(from, to)
	for _, s := range from.Sets {
		if _, unused := old[s.Name]; unused {
			b.enc.DelSet(libSet(to.Name, s))
			b.did("delete set %s", s.Name)
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
			b.did("flush chain %s", c.Name)
		}
		b.addRules(to.Name, c)
	}
	for _, c := range from.Chains {
		if _, unused := old[c.Name]; unused {
			b.enc.FlushChain(libChain(to.Name, c))
			b.did("flush chain %s", c.Name)
			b.enc.DelChain(libChain(to.Name, c))
			b.did("delete chain %s", c.Name)
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

// difference tells which elements are in one list only.
func difference(before, after []ruleset.Element) (gone, come []ruleset.Element) {
	in := make(map[ruleset.Element]bool, len(before))
	for _, e := range before {
		in[e] = true
	}
	for _, e := range after {
		if in[e] {
			delete(in, e)
		} else {
			come = append(come, e)
		}
	}
	for _, e := range before {
		if in[e] {
			gone = append(gone, e)
		}
	}
	return gone, come
}
