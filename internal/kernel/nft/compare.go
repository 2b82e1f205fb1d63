package nft

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

// listing is what the kernel has of a table.
type listing struct {
	exists bool
	helper bool
	sets   map[string]listedSet
	chains map[string]listedChain
}

type listedSet struct {
	*nftables.Set
	elements []nftables.SetElement // empty for sets whose elements other packages add and remove
}

type listedChain struct {
	*nftables.Chain
	rules [][]byte // lists of expressions
}

// comparison says how a listing differs from the table that is wanted.
type comparison struct {
	exists  bool          // the kernel has a table of this name
	same    ruleset.Table // the part of the table that the kernel has; a chain with other rules has none here
	missing []string      // what the kernel lacks: "missing chain prerouting"
	surplus []string      // what the kernel has beyond the table, or has otherwise: "added chain more"
}

// differences returns all of them, as parts of a sentence.
func (c comparison) differences() []string { return slices.Concat(c.missing, c.surplus) }

// compare compares a table with what the kernel has.
func compare(t ruleset.Table, l listing) (c comparison) {
	c.same.Name, c.exists = t.Name, l.exists
	if !l.exists {
		c.missing = []string{"missing table inet " + t.Name}
		return c
	}
	if c.same.Helper = t.Helper && l.helper; t.Helper && !l.helper {
		c.missing = append(c.missing, "missing ct helper "+ruleset.HelperName)
	}
	for _, s := range t.Sets {
		if found, ok := l.sets[s.Name]; ok {
			c.compareSet(s, found)
		} else {
			c.missing = append(c.missing, "missing "+word(s)+" "+s.Name)
		}
		delete(l.sets, s.Name)
	}
	for _, want := range t.Chains {
		if found, ok := l.chains[want.Name]; ok {
			c.compareChain(want, found)
		} else {
			c.missing = append(c.missing, "missing chain "+want.Name)
		}
		delete(l.chains, want.Name)
	}
	for name := range l.sets {
		c.surplus = append(c.surplus, "added set "+name)
	}
	for name := range l.chains {
		c.surplus = append(c.surplus, "added chain "+name)
	}
	slices.Sort(c.surplus)
	return c
}

func word(s ruleset.Set) string {
	if s.IsMap() {
		return "map"
	}
	return "set"
}

// elementKey is everything that an element consists of here, to find it.
type elementKey struct {
	key, end, value string
	closes          bool // it is the end of an interval
}

func keyOf(e nftables.SetElement) elementKey {
	return elementKey{string(e.Key), string(e.KeyEnd), string(e.Val), e.IntervalEnd}
}

func (c *comparison) compareSet(want ruleset.Set, found listedSet) {
	if lib := libSet("", want); lib.IsMap != found.IsMap || lib.Interval != found.Interval ||
		lib.HasTimeout != found.HasTimeout || lib.KeyType.Bytes != found.KeyType.Bytes ||
		lib.DataType.Bytes != found.DataType.Bytes {
		c.surplus = append(c.surplus, "changed "+word(want)+" "+want.Name)
		return
	}
	listed := make(map[elementKey]bool, len(found.elements))
	for _, e := range found.elements {
		listed[keyOf(e)] = true
	}
	var missing []ruleset.Element
	same := want
	same.Elements = nil
	for _, e := range want.Elements {
		whole := true
		for _, lib := range libElements(want, e) {
			key := keyOf(lib)
			whole = whole && listed[key]
			delete(listed, key)
		}
		if whole {
			same.Elements = append(same.Elements, e)
		} else {
			missing = append(missing, e)
		}
	}
	c.same.Sets = append(c.same.Sets, same)
	in := fmt.Sprintf(" of %s %s", word(want), want.Name)
	switch len(missing) {
	case 0:
	case 1:
		c.missing = append(c.missing, "missing element "+want.ElementText(missing[0])+in)
	default:
		c.missing = append(c.missing, fmt.Sprintf("missing %d elements%s", len(missing), in))
	}
	if len(listed) > 0 {
		c.surplus = append(c.surplus, fmt.Sprintf("added elements%s", in))
	}
}

func (c *comparison) compareChain(want ruleset.Chain, found listedChain) {
	lib := libChain("", want)
	if found.Type != lib.Type || found.Hooknum == nil || *found.Hooknum != *lib.Hooknum ||
		found.Priority == nil || *found.Priority != *lib.Priority ||
		found.Policy == nil || *found.Policy != *lib.Policy {
		c.surplus = append(c.surplus, "changed chain "+want.Name)
		return
	}
	var missing []string
	rest := found.rules
	for _, r := range want.Rules {
		exprs := expressions(r)
		i := slices.IndexFunc(rest, func(listed []byte) bool { return sameRule(listed, exprs) })
		if i < 0 {
			missing = append(missing, fmt.Sprintf("missing rule %q of chain %s", r, want.Name))
			continue
		}
		rest = rest[i+1:]
	}
	same := want
	switch {
	case len(missing) > 0:
		same.Rules = nil
		c.missing = append(c.missing, missing...)
	case len(found.rules) != len(want.Rules):
		same.Rules = nil
		c.surplus = append(c.surplus, "added rules of chain "+want.Name)
	}
	c.same.Chains = append(c.same.Chains, same)
}

// expressions encodes a rule as a list of expressions.
func expressions(r ruleset.Rule) []byte {
	var list netlink.Buffer
	for _, e := range encodeRule(r) {
		data, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			panic(fmt.Sprintf("nft: rule %q: %v", r, err)) // Apply has installed it
		}
		list.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
	}
	return addDirections(list)
}

// sameRule reports whether the kernel lists these expressions, and no others.
func sameRule(listed, want []byte) bool {
	var elems [][]byte
	for _, elem := range netlink.Attributes(listed) {
		elems = append(elems, elem)
	}
	for _, elem := range netlink.Attributes(want) {
		if len(elems) == 0 || !sameExpression(elems[0], elem) {
			return false
		}
		elems = elems[1:]
	}
	return len(elems) == 0
}

// sameExpression compares the attributes that an expression has in the kernel's list and in a transaction.
// The list adds defaults, and leaves out what only a transaction needs; which ones, depends on the kernel.
func sameExpression(listed, want []byte) bool {
	name := netlink.Text(netlink.Find(want, unix.NFTA_EXPR_NAME))
	if !bytes.Equal(netlink.Text(netlink.Find(listed, unix.NFTA_EXPR_NAME)), name) {
		return false
	}
	found := netlink.Find(listed, unix.NFTA_EXPR_DATA)
	for typ, value := range netlink.Attributes(netlink.Find(want, unix.NFTA_EXPR_DATA)) {
		got := netlink.Find(found, typ)
		switch {
		case got == nil:
		case string(name) == "nat" && typ == unix.NFTA_NAT_FLAGS: // some kernels add NF_NAT_RANGE_MAP_IPS
			if flags := netlink.Uint32(value); netlink.Uint32(got)&flags != flags {
				return false
			}
		case len(got) != len(value): // a name without its zero byte, a number of fewer bytes
			if !bytes.Equal(bytes.Trim(got, "\x00"), bytes.Trim(value, "\x00")) {
				return false
			}
		case !bytes.Equal(got, value):
			return false
		}
	}
	return true
}
