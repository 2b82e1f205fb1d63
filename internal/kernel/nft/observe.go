package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

// Tables returns the names of the tables in the kernel that belong to an ftpgate, sorted.
func (c *Conn) Tables() ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tables, err := c.read.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("nft: list tables: %w", netlink.Errno(err))
	}
	var own []string
	for _, t := range tables {
		if ruleset.OwnTable(t.Name) {
			own = append(own, t.Name)
		}
	}
	slices.Sort(own)
	return own, nil
}

// Listens returns the listen addresses that one of ftpgate's tables publishes, read from its maps in the
// kernel. Listen.Addr is not valid if the table publishes every address.
func (c *Conn) Listens(table string) ([]forward.Listen, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sets, err := c.read.GetSets(libTable(table))
	if err != nil {
		return nil, fmt.Errorf("nft: list sets of table %s: %w", table, netlink.Errno(err))
	}
	var listens []forward.Listen
	for _, s := range sets {
		if !s.IsMap || !strings.HasPrefix(s.Name, "control") {
			continue
		}
		elements, err := c.read.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("nft: list set %s of table %s: %w", s.Name, table, netlink.Errno(err))
		}
		for _, e := range elements {
			if l, ok := listenOf(s, e.Key); ok && !slices.Contains(listens, l) {
				listens = append(listens, l)
			}
		}
	}
	return listens, nil
}

// listenOf reads the key of a control map, whose fields the set's type names.
func listenOf(s *nftables.Set, key []byte) (forward.Listen, bool) {
	parts := nftables.ConcatSetTypeElements(s.KeyType)
	var l forward.Listen
	// The first address of a key is the listen address, and a client's address follows. If the name of the
	// map says that every address is published, the only address is a client's.
	every := strings.Contains(s.Name, "_any")
	for _, p := range parts {
		size := int(p.Bytes)
		if len(key) < size {
			return forward.Listen{}, false
		}
		field := key[:size]
		key = key[min(netlink.Align(size), len(key)):]
		switch p.Name {
		case nftables.TypeIFName.Name:
			l.Interface = strings.TrimRight(string(field), "\x00")
		case nftables.TypeIPAddr.Name, nftables.TypeIP6Addr.Name:
			if !every && !l.Addr.IsValid() {
				l.Addr, _ = netip.AddrFromSlice(field)
			}
		case nftables.TypeInetService.Name:
			l.Port = binary.BigEndian.Uint16(field)
		}
	}
	return l, l.Port != 0
}
