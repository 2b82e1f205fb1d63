// Package nftforeign reads the nftables of other programs, to find the rules that get in the way of forwards:
// chains that refuse packets, helpers, translations, and rules that keep conntrack from following a
// connection.
//
// It changes nothing. It reads what the rules say, and does not evaluate them for a certain packet: a
// condition that it does not know is reported as one. It does not see the rules of iptables-legacy.
package nftforeign

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

// Chain is a base chain of another program.
type Chain struct {
	Family string // "ip", "ip6" or "inet"
	Table  string
	Name   string
	Owner  string // "docker", "firewalld", "ufw", or "" if unknown
}

// String names the chain, for the beginning of a sentence: "Docker's chain FORWARD of table ip filter". A
// chain without a family is one of iptables-legacy, which nftables does not show.
func (c Chain) String() string {
	if c.Family == "" {
		return fmt.Sprintf("chain %s of iptables-legacy", c.Name)
	}
	owner := map[string]string{"docker": "Docker's ", "ufw": "ufw's ", "firewalld": "firewalld's "}[c.Owner]
	return fmt.Sprintf("%schain %s of table %s %s", owner, c.Name, c.Family, c.Table)
}

// RefusingForwardChains returns the chains at the forward hook, outside of ftpgate's tables, that refuse
// packets by default: their policy is drop, or they end with an unconditional drop or reject. Rules before
// that may still accept a forward's connections. A chain that accepts translated connections (ct status dnat
// accept) is left out. The error wraps the kernel's: EPERM without CAP_NET_ADMIN.
func RefusingForwardChains() ([]Chain, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.close()
	var refusing []Chain
	for _, ch := range r.chains {
		if !isForeign(ch) || *ch.Hooknum != *nftables.ChainHookForward {
			continue
		}
		rules, err := r.rulesOf(ch.Table, ch.Name)
		if err != nil {
			return nil, err
		}
		if refuses(rules, dropsByPolicy(ch)) {
			refusing = append(refusing, r.chain(ch))
		}
	}
	return refusing, nil
}

// reader reads tables over a connection of its own.
type reader struct {
	conn    *nftables.Conn
	chains  []*nftables.Chain             // of all tables
	rules   map[objectID][]*nftables.Rule // of the chains that were read
	helpers map[objectID]string           // the kernel's names of ct helper objects
}

// objectID identifies a chain or an object of a table.
type objectID struct {
	family      nftables.TableFamily
	table, name string
}

func idOf(t *nftables.Table, name string) objectID { return objectID{t.Family, t.Name, name} }

// open connects to the network namespace of the calling thread, and lists the chains.
func open() (*reader, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("nftforeign: open netlink: %w", err)
	}
	r := &reader{conn: conn, rules: map[objectID][]*nftables.Rule{}, helpers: map[objectID]string{}}
	if r.chains, err = conn.ListChains(); err != nil {
		r.close()
		return nil, fmt.Errorf("nftforeign: list chains: %w", netlink.Errno(err))
	}
	return r, nil
}

func (r *reader) close() { _ = r.conn.CloseLasting() }

// rulesOf reads a chain once.
func (r *reader) rulesOf(t *nftables.Table, name string) ([]*nftables.Rule, error) {
	id := idOf(t, name)
	if rules, known := r.rules[id]; known {
		return rules, nil
	}
	rules, err := r.conn.GetRules(t, &nftables.Chain{Name: name, Table: t})
	if err != nil {
		return nil, fmt.Errorf("nftforeign: list chain %s of table %s: %w", name, t.Name, netlink.Errno(err))
	}
	r.rules[id] = rules
	return rules, nil
}

func (r *reader) chain(ch *nftables.Chain) Chain {
	t := ch.Table
	return Chain{Family: familyNames[t.Family], Table: t.Name, Name: ch.Name, Owner: r.owner(t)}
}

// owner recognizes the program that made a table by well-known names.
func (r *reader) owner(t *nftables.Table) string {
	if t.Name == "firewalld" {
		return "firewalld"
	}
	for _, ch := range r.chains {
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

// familyNames are the families whose tables see routed packets.
var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip",
	nftables.TableFamilyIPv6: "ip6",
	nftables.TableFamilyINet: "inet",
}

// isForeign reports whether ch is another program's base chain for IP packets.
func isForeign(ch *nftables.Chain) bool {
	return ch.Hooknum != nil && familyNames[ch.Table.Family] != "" && !ruleset.OwnTable(ch.Table.Name)
}

func dropsByPolicy(ch *nftables.Chain) bool {
	return ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop
}

// refuses reports whether a base chain refuses packets that match none of its conditions. It reads the rules
// up to the first unconditional verdict.
func refuses(rules []*nftables.Rule, policyDrop bool) bool {
	for _, r := range rules {
		if acceptsTranslated(r) {
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

// verdictOf returns the verdict of a rule that matches every packet. A reject counts as a drop.
func verdictOf(r *nftables.Rule) (verdict expr.VerdictKind, unconditional bool) {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			return expr.VerdictDrop, true
		case *expr.Verdict:
			final := e.Kind == expr.VerdictAccept || e.Kind == expr.VerdictDrop ||
				e.Kind == expr.VerdictReturn
			return e.Kind, final
		default:
			return 0, false
		}
	}
	return 0, false
}

const ctStatusDNAT = 1 << 5 // IPS_DST_NAT of include/uapi/linux/netfilter/nf_conntrack_common.h

// acceptsTranslated recognizes: ct status dnat accept
func acceptsTranslated(r *nftables.Rule) bool {
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
