package nftforeign

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nft"
)

// ForeignAct is what a rule of another program does to a TCP connection.
type ForeignAct string

// The acts that can be in a forward's way.
const (
	ForeignHelper   ForeignAct = "helper"   // attaches a helper of conntrack
	ForeignNoTrack  ForeignAct = "notrack"  // keeps conntrack from following it
	ForeignDNAT     ForeignAct = "dnat"     // sends it elsewhere (dnat, redirect)
	ForeignSynProxy ForeignAct = "synproxy" // answers its SYN, and shifts its sequence numbers from then on
)

// ForeignRule is a rule outside of ftpgate's tables.
type ForeignRule struct {
	Family, Table, Chain string // where it stands
	Owner                string // "docker", "firewalld", "ufw", or "" where it cannot be told
	Hook                 string // from which packets come to it: "prerouting", "input", "output"
	Priority             int32  // of the base chain at that hook
	Act                  ForeignAct
	Helper               string              // of ForeignHelper: "ftp"
	Template             bool                // of ForeignHelper: iptables' CT target, which works before conntrack only
	To                   netip.Addr          // only connections to this address; not valid: any
	Ports                []forward.PortRange // only connections to these ports; empty: any
	Narrow               bool                // it has further conditions, which are not read
}

// InputChain is a chain of another program that packets to the gateway itself pass and that ends in a refusal.
type InputChain struct {
	nft.ForwardChain
	Ports      []forward.PortRange // TCP ports that it lets through before, whoever asks
	Interfaces []string            // interfaces from which it lets everything through before
}

// Foreign is what other programs' tables do that forwards may run into, beside RefusingForwardChains.
type Foreign struct {
	Rules  []ForeignRule
	Inputs []InputChain
}

// Read returns what the tables do that are not ftpgate's. What iptables-legacy has is not among them.
func Read(c *nft.Conn) (Foreign, error) {
	chains, err := c.Read.ListChains()
	if err != nil {
		return Foreign{}, fmt.Errorf("nft: list chains: %w", nft.Errno(err))
	}
	f := foreigner{conn: c, chains: chains, rules: map[chainID][]*nftables.Rule{}, helpers: map[chainID]string{}}
	for _, ch := range chains {
		if _, routed := nft.FamilyNames[ch.Table.Family]; !routed || ch.Hooknum == nil || nft.OwnTable(ch.Table.Name) {
			continue
		}
		if f.hook = hookName(*ch.Hooknum); f.hook == "" {
			continue
		}
		f.base, f.accepts, f.seen = ch, InputChain{}, map[string]bool{}
		if err := f.walk(ch, condition{}); err != nil {
			return Foreign{}, err
		}
		if err := f.input(); err != nil {
			return Foreign{}, err
		}
	}
	return f.found, nil
}

// chainID names a chain, or an object, of a table.
type chainID struct {
	family      nftables.TableFamily
	table, name string
}

func idOf(t *nftables.Table, name string) chainID { return chainID{t.Family, t.Name, name} }

// foreigner follows a packet from a base chain through all the chains that it may come to.
type foreigner struct {
	conn    *nft.Conn
	chains  []*nftables.Chain
	rules   map[chainID][]*nftables.Rule // as far as they have been read
	helpers map[chainID]string           // the kernel's names of ct helper objects
	found   Foreign

	base    *nftables.Chain
	hook    string
	accepts InputChain      // what the chains from base on let through
	seen    map[string]bool // chains that were walked, with the conditions on the way
}

// hookName returns the hooks whose rules matter here.
func hookName(h nftables.ChainHook) string {
	switch h {
	case *nftables.ChainHookPrerouting:
		return "prerouting"
	case *nftables.ChainHookInput:
		return "input"
	case *nftables.ChainHookOutput:
		return "output"
	}
	return ""
}

// rulesOf reads a chain once.
func (f *foreigner) rulesOf(t *nftables.Table, name string) ([]*nftables.Rule, error) {
	id := idOf(t, name)
	if rules, known := f.rules[id]; known {
		return rules, nil
	}
	rules, err := f.conn.Read.GetRules(t, &nftables.Chain{Name: name, Table: t})
	if err != nil {
		return nil, fmt.Errorf("nft: list chain %s of table %s: %w", name, t.Name, nft.Errno(err))
	}
	f.rules[id] = rules
	return rules, nil
}

// walk goes through a chain to which packets of one condition come. The kernel has no circles of jumps.
func (f *foreigner) walk(ch *nftables.Chain, came condition) error {
	key := ch.Name + " " + came.key()
	if f.seen[key] {
		return nil
	}
	f.seen[key] = true
	rules, err := f.rulesOf(ch.Table, ch.Name)
	if err != nil {
		return err
	}
	for _, r := range rules {
		c, err := f.conditionOf(r, came)
		if err != nil {
			return err
		}
		if c.never {
			continue
		}
		if err := f.act(ch, r, c); err != nil {
			return err
		}
		for _, next := range c.jumps {
			if err := f.walk(&nftables.Chain{Name: next, Table: ch.Table}, c.passedOn()); err != nil {
				return err
			}
		}
	}
	return nil
}

// act takes down what a rule does.
func (f *foreigner) act(ch *nftables.Chain, r *nftables.Rule, c condition) error {
	rule := ForeignRule{
		Family: nft.FamilyNames[ch.Table.Family], Table: ch.Table.Name, Chain: ch.Name,
		Hook: f.hook, Priority: int32(*f.base.Priority), To: c.to, Ports: c.ports, Narrow: c.narrow || c.iface != "",
	}
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Objref:
			if nftables.ObjType(e.Type) != nftables.ObjTypeCtHelper {
				continue
			}
			name, err := f.helperOf(ch.Table, e.Name)
			if err != nil {
				return err
			}
			rule.Act, rule.Helper = ForeignHelper, name
		case *expr.Notrack:
			rule.Act = ForeignNoTrack
		case *expr.NAT:
			if e.Type == expr.NATTypeDestNAT {
				rule.Act = ForeignDNAT
			}
		case *expr.Redir:
			rule.Act = ForeignDNAT
		case *expr.SynProxy:
			rule.Act = ForeignSynProxy
		case *expr.Target:
			targetOf(e, &rule)
		case *expr.Verdict:
			if e.Kind == expr.VerdictAccept {
				f.accept(c)
			}
		}
	}
	if rule.Act != "" {
		rule.Owner = nft.Owner(ch.Table, f.chains)
		f.found.Rules = append(f.found.Rules, rule)
	}
	return nil
}

// accept takes down what is let through for certain: by port alone, or by interface alone.
func (f *foreigner) accept(c condition) {
	switch {
	case c.narrow || c.to.IsValid():
	case len(c.ports) > 0 && c.iface == "":
		f.accepts.Ports = append(f.accepts.Ports, c.ports...)
	case len(c.ports) == 0 && c.iface != "":
		f.accepts.Interfaces = append(f.accepts.Interfaces, c.iface)
	}
}

// input takes the base chain down if it refuses what comes to the gateway itself.
func (f *foreigner) input() error {
	if f.hook != "input" {
		return nil
	}
	rules, err := f.rulesOf(f.base.Table, f.base.Name)
	if err != nil {
		return err
	}
	// What was translated does not come to the gateway itself.
	rules = slices.DeleteFunc(slices.Clone(rules), nft.AcceptsTranslated)
	if !nft.Refuses(rules, f.base.Policy != nil && *f.base.Policy == nftables.ChainPolicyDrop) {
		return nil
	}
	f.accepts.ForwardChain = nft.ForwardChain{nft.FamilyNames[f.base.Table.Family], f.base.Table.Name, f.base.Name, nft.Owner(f.base.Table, f.chains)}
	f.found.Inputs = append(f.found.Inputs, f.accepts)
	return nil
}

// helperOf returns the kernel's name of the helper that an object stands for.
func (f *foreigner) helperOf(t *nftables.Table, object string) (string, error) {
	id := idOf(t, object)
	if name, known := f.helpers[id]; known {
		return name, nil
	}
	objects, err := f.conn.Read.GetNamedObjects(t)
	if err != nil {
		return "", fmt.Errorf("nft: list objects of table %s: %w", t.Name, nft.Errno(err))
	}
	for _, o := range objects {
		named, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		if helper, ok := named.Obj.(*expr.CtHelper); ok {
			f.helpers[idOf(t, named.Name)] = helper.Name
		}
	}
	return f.helpers[id], nil
}

// targetOf reads the targets of iptables that have no nftables words.
func targetOf(e *expr.Target, rule *ForeignRule) {
	switch e.Name {
	case "DNAT", "REDIRECT":
		rule.Act = ForeignDNAT
	case "SYNPROXY":
		rule.Act = ForeignSynProxy
	case "NOTRACK":
		rule.Act = ForeignNoTrack
	case "CT":
		info, ok := e.Info.(*xt.Unknown)
		// struct xt_ct_target_info_v1 of include/uapi/linux/netfilter/xt_CT.h: flags and zone in 16 bits,
		// two masks of 32, then the helper's name in 16 bytes.
		if !ok || len(*info) < 28 {
			return
		}
		name, _, _ := bytes.Cut((*info)[12:28], []byte{0})
		switch {
		case (*info)[0]|(*info)[1] == 1: // XT_CT_NOTRACK, whichever end comes first
			rule.Act = ForeignNoTrack
		case len(name) > 0:
			rule.Act, rule.Helper, rule.Template = ForeignHelper, string(name), true
		}
	}
}
