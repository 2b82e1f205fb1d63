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
	"ftpgate/internal/kernel/netlink"
)

// Action is what a rule of another program does to a TCP connection.
type Action string

// The actions that can get in a forward's way.
const (
	ActionHelper   Action = "helper"   // attaches a helper of conntrack
	ActionNoTrack  Action = "notrack"  // keeps conntrack from following the connection
	ActionDNAT     Action = "dnat"     // sends the connection elsewhere (dnat, redirect)
	ActionSynProxy Action = "synproxy" // answers the SYN, and shifts sequence numbers from then on
)

// Rule is a rule of another program.
type Rule struct {
	Family, Table, Chain string // where the rule stands
	Owner                string // "docker", "firewalld", "ufw", or "" if unknown
	Hook                 string // of the base chain that leads to the rule: "prerouting", "input" or "output"
	Priority             int32  // of that base chain
	Action               Action
	Helper               string              // of ActionHelper: "ftp"
	Template             bool                // of ActionHelper: iptables' CT target, for use before conntrack
	To                   netip.Addr          // only connections to this address; not valid: any
	Ports                []forward.PortRange // only connections to these ports; empty: any
	Narrow               bool                // there are further conditions, which Read does not understand
}

// InputChain is a base chain that refuses packets to the gateway itself by default.
type InputChain struct {
	Chain
	Ports      []forward.PortRange // TCP ports that it accepts from all addresses
	Interfaces []string            // interfaces from which it accepts everything
}

// Read returns the rules of other programs that can get in a forward's way, and the chains that refuse
// packets to the gateway itself. For forwarded packets see RefusingForwardChains. The error wraps the
// kernel's: EPERM without CAP_NET_ADMIN.
func Read() ([]Rule, []InputChain, error) {
	r, err := open()
	if err != nil {
		return nil, nil, err
	}
	defer r.close()
	var rules []Rule
	var inputs []InputChain
	for _, ch := range r.chains {
		if !isForeign(ch) {
			continue
		}
		w := walker{reader: r, base: ch, hook: hookName(*ch.Hooknum), visited: map[string]bool{}}
		if w.hook == "" {
			continue
		}
		if err := w.walk(ch, condition{}); err != nil {
			return nil, nil, err
		}
		rules = append(rules, w.rules...)
		if w.hook != "input" {
			continue
		}
		refusing, err := w.refusesInput()
		if err != nil {
			return nil, nil, err
		}
		if refusing {
			w.accepts.Chain = r.chain(ch)
			inputs = append(inputs, w.accepts)
		}
	}
	return rules, inputs, nil
}

// walker follows packets from a base chain through all chains that they can reach.
type walker struct {
	*reader
	base    *nftables.Chain
	hook    string
	rules   []Rule          // the rules that were found
	accepts InputChain      // what the chains accept
	visited map[string]bool // chains, with the condition under which they were reached
}

// hookName returns nft's name of a hook that walkers start from, or "".
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

// walk reads a chain that packets reach under a condition, and the chains that it jumps to. It ends because
// the kernel refuses circles of jumps.
func (w *walker) walk(ch *nftables.Chain, incoming condition) error {
	key := ch.Name + " " + incoming.key()
	if w.visited[key] {
		return nil
	}
	w.visited[key] = true
	rules, err := w.rulesOf(ch.Table, ch.Name)
	if err != nil {
		return err
	}
	for _, r := range rules {
		c, err := w.conditionOf(r, incoming)
		if err != nil {
			return err
		}
		if c.impossible {
			continue
		}
		if err := w.recordAction(ch, r, c); err != nil {
			return err
		}
		for _, next := range c.jumps {
			if err := w.walk(&nftables.Chain{Name: next, Table: ch.Table}, c.withoutJumps()); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordAction adds a rule to w.rules if it has an action, and to w.accepts if it accepts packets.
func (w *walker) recordAction(ch *nftables.Chain, r *nftables.Rule, c condition) error {
	rule := Rule{
		Family: familyNames[ch.Table.Family], Table: ch.Table.Name, Chain: ch.Name,
		Hook: w.hook, Priority: int32(*w.base.Priority),
		To: c.to, Ports: c.ports, Narrow: c.narrow || c.iface != "",
	}
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Objref:
			if nftables.ObjType(e.Type) != nftables.ObjTypeCtHelper {
				continue
			}
			name, err := w.helperName(ch.Table, e.Name)
			if err != nil {
				return err
			}
			rule.Action, rule.Helper = ActionHelper, name
		case *expr.Notrack:
			rule.Action = ActionNoTrack
		case *expr.NAT:
			if e.Type == expr.NATTypeDestNAT {
				rule.Action = ActionDNAT
			}
		case *expr.Redir:
			rule.Action = ActionDNAT
		case *expr.SynProxy:
			rule.Action = ActionSynProxy
		case *expr.Target:
			rule.readTarget(e)
		case *expr.Verdict:
			if e.Kind == expr.VerdictAccept {
				w.recordAccept(c)
			}
		}
	}
	if rule.Action != "" {
		rule.Owner = w.owner(ch.Table)
		w.rules = append(w.rules, rule)
	}
	return nil
}

// recordAccept adds to w.accepts what is accepted for certain: by port alone, or by interface alone.
func (w *walker) recordAccept(c condition) {
	switch {
	case c.narrow || c.to.IsValid():
	case len(c.ports) > 0 && c.iface == "":
		w.accepts.Ports = append(w.accepts.Ports, c.ports...)
	case len(c.ports) == 0 && c.iface != "":
		w.accepts.Interfaces = append(w.accepts.Interfaces, c.iface)
	}
}

// refusesInput reports whether the base chain refuses packets to the gateway itself by default.
func (w *walker) refusesInput() (bool, error) {
	rules, err := w.rulesOf(w.base.Table, w.base.Name)
	if err != nil {
		return false, err
	}
	// A translated packet is not addressed to the gateway itself.
	rules = slices.DeleteFunc(slices.Clone(rules), acceptsTranslated)
	return refuses(rules, dropsByPolicy(w.base)), nil
}

// helperName returns the kernel's name of the helper that a ct helper object stands for.
func (r *reader) helperName(t *nftables.Table, object string) (string, error) {
	id := idOf(t, object)
	if name, known := r.helpers[id]; known {
		return name, nil
	}
	objects, err := r.conn.GetNamedObjects(t)
	if err != nil {
		return "", fmt.Errorf("nftforeign: list objects of table %s: %w", t.Name, netlink.Errno(err))
	}
	for _, o := range objects {
		named, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		if helper, ok := named.Obj.(*expr.CtHelper); ok {
			r.helpers[idOf(t, named.Name)] = helper.Name
		}
	}
	return r.helpers[id], nil
}

// readTarget reads a target of iptables that nftables has no expression for.
func (rule *Rule) readTarget(e *expr.Target) {
	switch e.Name {
	case "DNAT", "REDIRECT":
		rule.Action = ActionDNAT
	case "SYNPROXY":
		rule.Action = ActionSynProxy
	case "NOTRACK":
		rule.Action = ActionNoTrack
	case "CT":
		info, ok := e.Info.(*xt.Unknown)
		// struct xt_ct_target_info_v1 of include/uapi/linux/netfilter/xt_CT.h: 16 bits each for flags and
		// zone, two masks of 32 bits, and the helper's name in 16 bytes.
		if !ok || len(*info) < 28 {
			return
		}
		name, _, _ := bytes.Cut((*info)[12:28], []byte{0})
		switch {
		case (*info)[0]|(*info)[1] == 1: // XT_CT_NOTRACK, in either byte order
			rule.Action = ActionNoTrack
		case len(name) > 0:
			rule.Action, rule.Helper, rule.Template = ActionHelper, string(name), true
		}
	}
}
