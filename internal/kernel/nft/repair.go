package nft

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

// Compare compares the kernel's table with t, and returns how it differs: "missing rule ... of chain
// prerouting". It leaves out elements that expire. It changes nothing.
func (c *Conn) Compare(t ruleset.Table) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, err := c.compare(t)
	return found.differences(), err
}

// Repair makes the kernel's table equal to t again after another program has changed it, and returns how it
// differed. It adds only what is missing, so that elements that expire stay; where that does not suffice, it
// replaces the table. It sends nothing if there is no difference.
//
// Where the table is gone and many clients are banned, it installs only what serves sessions at once
// (ruleset.Table.ServesFirst), and more is true: the next call adds the rest.
func (c *Conn) Repair(t ruleset.Table) (differences []string, more bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t = c.supported(t)
	found, err := c.compare(t)
	differences = found.differences()
	if err != nil || len(differences) == 0 {
		return differences, false, err
	}
	c.current = nil // Apply would send the difference from what is gone
	if len(found.surplus) > 0 {
		return differences, false, c.replace(t, nil)
	}
	want := t
	if part, many := t.ServesFirst(); many && !found.exists {
		want, more = part, true
	}
	if c.add(found.same, want) != nil { // another program was faster
		return differences, false, c.replace(t, nil)
	}
	c.current = &want
	return differences, more, nil
}

// addedAtOnce bounds the banned clients in a transaction of add.
const addedAtOnce = 5000

// add adds to the kernel's table what it lacks. It adds many banned clients in transactions of their own:
// while one runs, sessions cannot open pinholes. The last transaction adds the rest. The caller holds mu.
func (c *Conn) add(has, want ruleset.Table) error {
	wanted := make(map[string]ruleset.Set, len(want.Sets))
	for _, s := range want.Sets {
		wanted[s.Name] = s
	}
	for i := range has.Sets {
		s := &has.Sets[i]
		_, missing := difference(s.Elements, wanted[s.Name].Elements)
		if !s.Expires || len(missing) <= addedAtOnce {
			continue
		}
		for chunk := range slices.Chunk(missing, addedAtOnce) {
			b := newBatch()
			b.addElements(libSet(want.Name, *s), *s, chunk)
			if err := c.send(b); err != nil {
				return err
			}
		}
		s.Elements = wanted[s.Name].Elements
	}
	b := newBatch()
	b.enc.AddTable(libTable(want.Name))
	b.operation("add table %s", want.Name)
	b.update(has, want)
	return c.send(b)
}

// listings bounds how often a table is listed that another program removes meanwhile.
const listings = 3

func (c *Conn) compare(t ruleset.Table) (comparison, error) {
	l, err := c.list(t)
	for n := 1; n < listings && errors.Is(err, unix.ENOENT); n++ {
		l, err = c.list(t)
	}
	if err != nil {
		return comparison{}, fmt.Errorf("nft: list table %s: %w", t.Name, netlink.Errno(err))
	}
	return compare(t, l), nil
}

// list lists what the kernel has of a table. There may be an error if another program changes it meanwhile.
func (c *Conn) list(t ruleset.Table) (listing, error) {
	l := listing{sets: map[string]listedSet{}, chains: map[string]listedChain{}}
	tables, err := c.read.ListTablesOfFamily(nftables.TableFamilyINet)
	named := func(table *nftables.Table) bool { return table.Name == t.Name }
	if err != nil || !slices.ContainsFunc(tables, named) {
		return l, err
	}
	l.exists = true
	chains, err := c.read.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return l, err
	}
	for _, chain := range chains {
		if chain.Table.Name == t.Name {
			l.chains[chain.Name] = listedChain{Chain: chain}
		}
	}
	// The library cannot read some of the expressions, nor helpers.
	rules, err := c.dump(unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, t.Name)
	if err != nil {
		return l, err
	}
	for _, r := range rules {
		name := string(netlink.Text(netlink.Find(r, unix.NFTA_RULE_CHAIN)))
		chain := l.chains[name]
		chain.rules = append(chain.rules, netlink.Find(r, unix.NFTA_RULE_EXPRESSIONS))
		l.chains[name] = chain
	}
	objects, err := c.dump(unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, t.Name)
	if err != nil {
		return l, err
	}
	for _, o := range objects {
		l.helper = l.helper || string(netlink.Text(netlink.Find(o, unix.NFTA_OBJ_NAME))) == ruleset.HelperName
	}
	sets, err := c.read.GetSets(libTable(t.Name))
	if err != nil {
		return l, err
	}
	return l, c.listSets(t, sets, l.sets)
}

// listSets lists the elements of sets, but for those that expire.
func (c *Conn) listSets(t ruleset.Table, sets []*nftables.Set, listed map[string]listedSet) error {
	expire := map[string]bool{}
	for _, s := range t.Sets {
		expire[s.Name] = s.Timeout
	}
	for _, s := range sets {
		set := listedSet{Set: s}
		if !expire[s.Name] {
			var err error
			if set.elements, err = c.read.GetSetElements(s); err != nil {
				return err
			}
		}
		listed[s.Name] = set
	}
	return nil
}

// dump asks the kernel for all objects of a kind in a table, and returns the attributes of each. tableAttr is
// the type of the attribute that names the table.
func (c *Conn) dump(kind, tableAttr uint16, table string) (objects [][]byte, err error) {
	if err := c.redial(); err != nil {
		return nil, err
	}
	if err := c.write.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	data := netlink.Buffer{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}
	data.Text(tableAttr, table)
	messages, err := c.write.Execute(mdlayher.Message{
		Header: mdlayher.Header{Type: mdlayher.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: mdlayher.Request | mdlayher.Dump},
		Data: data,
	})
	if err != nil {
		c.write.Close() // more answers may be under way
		c.write = nil
		return nil, err
	}
	for _, m := range messages {
		if len(m.Data) < netlink.NetfilterLen {
			continue
		}
		attrs := m.Data[netlink.NetfilterLen:]
		if string(netlink.Text(netlink.Find(attrs, tableAttr))) == table {
			objects = append(objects, attrs)
		}
	}
	return objects, nil
}
