package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"ftpgate/internal/core/forward"
)

// Tables returns the names of ftpgate's own tables in the kernel, whoever made them.
func (c *Conn) Tables() ([]string, error) {
	tables, err := c.Read.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("nft: list tables: %w", Errno(err))
	}
	var own []string
	for _, t := range tables {
		if OwnTable(t.Name) {
			own = append(own, t.Name)
		}
	}
	slices.Sort(own)
	return own, nil
}

// Listens returns the listen addresses that one of ftpgate's own tables publishes, read back from
// its maps. Listen.Addr is not valid for "every address".
func (c *Conn) Listens(table string) ([]forward.Listen, error) {
	sets, err := c.Read.GetSets(libTable(table))
	if err != nil {
		return nil, fmt.Errorf("nft: list sets of table %s: %w", table, Errno(err))
	}
	var listens []forward.Listen
	for _, s := range sets {
		if !s.IsMap || !strings.HasPrefix(s.Name, "control") {
			continue
		}
		elements, err := c.Read.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("nft: list set %s of table %s: %w", s.Name, table, Errno(err))
		}
		for _, e := range elements {
			if l, ok := listenOf(s, e.Key); ok && !slices.Contains(listens, l) {
				listens = append(listens, l)
			}
		}
	}
	return listens, nil
}

// listenOf reads the key of a control map: what comes before the port, by the set's type.
func listenOf(s *nftables.Set, key []byte) (forward.Listen, bool) {
	parts := nftables.ConcatSetTypeElements(s.KeyType)
	var l forward.Listen
	// The listen address is the first address of a key: a client's stands behind it, and alone
	// where the name says that every address is meant.
	every := strings.Contains(s.Name, "_any")
	for _, p := range parts {
		size := int(p.Bytes)
		if len(key) < size {
			return forward.Listen{}, false
		}
		field := key[:size]
		key = key[min(align(size), len(key)):]
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

// ForwardChain is a chain of somebody else's that forwarded packets pass and that ends in a refusal.
type ForwardChain struct {
	Family string // "ip", "ip6" or "inet"
	Table  string
	Chain  string
	Owner  string // "docker", "firewalld", "ufw", or "" where it cannot be told
}

// RefusingForwardChains returns the chains at the forward hook, outside of ftpgate's tables, whose policy is
// drop or whose last word is an unconditional drop or reject. Whether they let a forward's
// connections pass before that cannot be told from outside; a chain that accepts
// translated connections (ct status dnat accept) is left out.
func (c *Conn) RefusingForwardChains() ([]ForwardChain, error) {
	chains, err := c.Read.ListChains()
	if err != nil {
		return nil, fmt.Errorf("nft: list chains: %w", Errno(err))
	}
	var found []ForwardChain
	for _, ch := range chains {
		family, routed := FamilyNames[ch.Table.Family]
		if !routed || ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookForward || OwnTable(ch.Table.Name) {
			continue
		}
		rules, err := c.Read.GetRules(ch.Table, ch)
		if err != nil {
			return nil, fmt.Errorf("nft: list chain %s of table %s: %w", ch.Name, ch.Table.Name, Errno(err))
		}
		drops := ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop
		if Refuses(rules, drops) {
			found = append(found, ForwardChain{family, ch.Table.Name, ch.Name, Owner(ch.Table, chains)})
		}
	}
	return found, nil
}

var FamilyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip",
	nftables.TableFamilyIPv6: "ip6",
	nftables.TableFamilyINet: "inet",
}

// Refuses reads a chain's rules to its first unconditional verdict.
func Refuses(rules []*nftables.Rule, policyDrop bool) bool {
	for _, r := range rules {
		if AcceptsTranslated(r) {
			return false
		}
		switch verdict, unconditional := verdictOf(r); {
		case !unconditional:
		case verdict == expr.VerdictAccept || verdict == expr.VerdictReturn:
			return policyDrop && verdict == expr.VerdictReturn
		case verdict == expr.VerdictDrop:
			return true
		}
	}
	return policyDrop
}

// verdictOf returns the verdict of a rule that matches every packet; a reject counts as a drop.
func verdictOf(r *nftables.Rule) (expr.VerdictKind, bool) {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			return expr.VerdictDrop, true
		case *expr.Verdict:
			return e.Kind, e.Kind == expr.VerdictAccept || e.Kind == expr.VerdictDrop || e.Kind == expr.VerdictReturn
		default:
			return 0, false
		}
	}
	return 0, false
}

// AcceptsTranslated finds: ct status dnat accept
func AcceptsTranslated(r *nftables.Rule) bool {
	status, accept := false, false
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Ct:
			status = e.Key == expr.CtKeySTATUS
		case *expr.Bitwise:
			status = status && len(e.Mask) == 4 && binary.NativeEndian.Uint32(e.Mask) == ctStatusDNAT
		case *expr.Verdict:
			accept = e.Kind == expr.VerdictAccept
		case *expr.Cmp, *expr.Counter:
		default:
			return false
		}
	}
	return status && accept
}

// Owner tells by well-known names whose table it is.
func Owner(t *nftables.Table, chains []*nftables.Chain) string {
	if t.Name == "firewalld" {
		return "firewalld"
	}
	for _, ch := range chains {
		if ch.Table.Name != t.Name || ch.Table.Family != t.Family {
			continue
		}
		switch {
		case ch.Name == "DOCKER-USER":
			return "docker"
		case strings.HasPrefix(ch.Name, "ufw-") || strings.HasPrefix(ch.Name, "ufw6-"):
			return "ufw"
		}
	}
	return ""
}
