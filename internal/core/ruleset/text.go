package ruleset

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// Statement is a part of a rule. Its text is nft's syntax; kernel/nft encodes the same statement.
type Statement interface{ text() string }

type (
	// StateIs matches the first packet of connections in one conntrack state: ct state new
	StateIs struct{ State string }
	// FromClient matches the packets of the end that began the connection: ct direction original
	FromClient struct{}
	// HelperIs matches data connections that the ftp helper expected. The kernel reads the helper of the
	// master (net/netfilter/nft_ct.c): ct helper "ftp"
	HelperIs struct{}
	// TCP matches packets of TCP: meta l4proto tcp
	TCP struct{}
	// PortBelow matches TCP ports below a bound: tcp dport < 1024
	PortBelow struct{ Port uint16 }
	// PortIn matches a range of TCP ports: tcp dport 50000-50100
	PortIn struct{ Ports forward.PortRange }
	// FamilyIs matches packets of one family: meta nfproto ipv4
	FamilyIs struct{ Version Version }
	// ToGateway matches packets to the gateway itself: fib daddr type local
	ToGateway struct{}
	// ToOtherHost matches packets to one other host: fib daddr type unicast
	ToOtherHost struct{}
	// Translated matches connections whose destination was translated: ct status dnat
	Translated struct{}
	// In matches packets whose key is in a set: ip daddr . tcp dport @helper4
	In struct {
		Version Version
		Key     []Column
		Set     string
	}
	// AttachHelper attaches the kernel's helper to the connection: ct helper set "ftp"
	AttachHelper struct{}
	// Translate sends the connection to the address in a map. If the map has no such key, the rule ends:
	// dnat ip to ip daddr . tcp dport map @control4
	Translate struct {
		Version  Version
		Key      []Column
		Map      string
		WithPort bool // the map's value has a port
	}
	// TranslateSource gives the connection the source address in a map. If the map has no such key, the rule
	// ends: snat ip to ip saddr . tcp dport map @source4
	TranslateSource struct {
		Version Version
		Key     []Column
		Map     string
	}
	// Redirect leads the connection to a port of the gateway: redirect to :8021
	Redirect struct{ Port uint16 }
	// Masquerade gives the connection the gateway's own address as its source: masquerade
	Masquerade struct{}
	// Reset refuses the connection: reject with tcp reset
	Reset struct{}
	// AtEnds matches the segments that begin and end TCP connections: tcp flags fin,syn,rst
	AtEnds struct{}
	// NotFirst does not match the first packet of a connection, if packets are counted: ct packets != 1
	NotFirst struct{}
	// DialledFrom matches connections whose client dialled at least this port: ct original proto-dst >= 1024
	DialledFrom struct{ Port uint16 }
	// UpTo matches PerSecond packets a second, and as many at once: limit rate 1000/second burst 1000 packets
	UpTo struct{ PerSecond int }
	// Log sends a copy of the packet to the listener of a group: log group 2121
	Log struct{ Group uint16 }
)

func (s StateIs) text() string    { return "ct state " + s.State }
func (TCP) text() string          { return "meta l4proto tcp" }
func (FromClient) text() string   { return "ct direction original" }
func (HelperIs) text() string     { return "ct helper " + strconv.Quote(HelperName) }
func (s PortBelow) text() string  { return fmt.Sprintf("tcp dport < %d", s.Port) }
func (s PortIn) text() string     { return "tcp dport " + portsText(s.Ports) }
func (s FamilyIs) text() string   { return "meta nfproto ipv" + s.Version.digit() }
func (ToGateway) text() string    { return "fib daddr type local" }
func (ToOtherHost) text() string  { return "fib daddr type unicast" }
func (s Redirect) text() string   { return fmt.Sprintf("redirect to :%d", s.Port) }
func (Translated) text() string   { return "ct status dnat" }
func (s In) text() string         { return fields(s.Version, s.Key) + " @" + s.Set }
func (AttachHelper) text() string { return "ct helper set " + strconv.Quote(HelperName) }
func (s Translate) text() string {
	return fmt.Sprintf("dnat %s to %s map @%s", s.Version.protocol(), fields(s.Version, s.Key), s.Map)
}
func (s TranslateSource) text() string {
	return fmt.Sprintf("snat %s to %s map @%s", s.Version.protocol(), fields(s.Version, s.Key), s.Map)
}
func (Masquerade) text() string { return "masquerade" }
func (Reset) text() string      { return "reject with tcp reset" }
func (AtEnds) text() string     { return "tcp flags fin,syn,rst" }
func (NotFirst) text() string   { return "ct packets != 1" }
func (s DialledFrom) text() string {
	return fmt.Sprintf("ct original proto-dst >= %d", s.Port)
}
func (s UpTo) text() string {
	return fmt.Sprintf("limit rate %d/second burst %d packets", s.PerSecond, s.PerSecond)
}
func (s Log) text() string { return fmt.Sprintf("log group %d", s.Group) }

// digit returns the version's digit in the names of sets.
func (v Version) digit() string { return strconv.Itoa(int(v)) }

// protocol returns nft's word for the version's header.
func (v Version) protocol() string {
	if v == IPv4 {
		return "ip"
	}
	return "ip6"
}

// fields returns the packet fields that a key is compared with, in nft syntax.
func fields(v Version, key []Column) string {
	parts := make([]string, len(key))
	for i, c := range key {
		switch c {
		case ColumnInterface:
			parts[i] = "iifname"
		case ColumnBanned, ColumnClient, ColumnSource:
			parts[i] = v.protocol() + " saddr"
		case ColumnListen, ColumnServer:
			parts[i] = v.protocol() + " daddr"
		case ColumnDialled:
			parts[i] = "ct original " + v.protocol() + " daddr"
		case ColumnSourcePort:
			parts[i] = "tcp sport"
		case ColumnPort:
			parts[i] = "tcp dport"
		default:
			panic(fmt.Sprintf("ruleset: column %d in a key", c))
		}
	}
	return strings.Join(parts, " . ")
}

// types returns the nft types of columns; addr is the type of their addresses.
func types(addr string, columns []Column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		switch c {
		case ColumnInterface:
			parts[i] = "ifname"
		case ColumnSourcePort, ColumnPort, ColumnToPort:
			parts[i] = "inet_service"
		default:
			parts[i] = addr
		}
	}
	return strings.Join(parts, " . ")
}

// IsMap reports whether the set maps keys to values.
func (s Set) IsMap() bool { return len(s.Value) > 0 }

// ElementText returns an element in nft syntax.
func (s Set) ElementText(e Element) string {
	var b strings.Builder
	e.write(&b, s.Key)
	if s.IsMap() {
		b.WriteString(" : ")
		e.write(&b, s.Value)
	}
	return b.String()
}

// Text returns the table as a file that nft -f loads: everything that ftpgate changes in the kernel's rules,
// except elements that expire.
func (t Table) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", Family, t.Name)
	if t.Helper {
		fmt.Fprintf(&b, "\tct helper %s {\n\t\ttype %q protocol tcp\n\t\tl3proto inet\n\t}\n\n",
			HelperName, HelperName)
	}
	for _, s := range t.Sets {
		s.write(&b)
	}
	for i, c := range t.Chains {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %s; policy accept;\n",
			c.Name, c.Type, c.Hook, c.Priority.Name)
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// String returns the rule in nft syntax.
func (r Rule) String() string {
	parts := make([]string, len(r))
	for i, s := range r {
		parts[i] = s.text()
	}
	return strings.Join(parts, " ")
}

func (s Set) write(b *strings.Builder) {
	addr, word := fmt.Sprintf("ipv%d_addr", s.Version), "set"
	typ := types(addr, s.Key)
	if s.IsMap() {
		word = "map"
		typ += " : " + types(addr, s.Value)
	}
	fmt.Fprintf(b, "\t%s %s {\n\t\ttype %s\n", word, s.Name, typ)
	if s.Size > 0 {
		fmt.Fprintf(b, "\t\tsize %d\n", s.Size)
	}
	if flags := s.flags(); len(flags) > 0 {
		fmt.Fprintf(b, "\t\tflags %s\n", strings.Join(flags, ","))
	}
	if s.Limited {
		fmt.Fprintf(b, "\t\tlimit rate 1/day burst %d packets\n", pinhole.FirstPackets)
	}
	for i, e := range s.lasting() {
		lead := "\t\telements = { "
		if i > 0 {
			lead = ",\n\t\t\t     "
		}
		b.WriteString(lead)
		b.WriteString(s.ElementText(e))
	}
	if len(s.lasting()) > 0 {
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n\n")
}

// lasting returns the elements that do not expire.
func (s Set) lasting() []Element {
	if !s.Expires {
		return s.Elements
	}
	expires := func(e Element) bool { return !e.Banned.Until.IsZero() }
	return slices.DeleteFunc(slices.Clone(s.Elements), expires)
}

// flags returns the set's flags in nft's order.
func (s Set) flags() (flags []string) {
	if s.Interval {
		flags = append(flags, "interval")
	}
	if s.Timeout || s.Expires {
		flags = append(flags, "timeout")
	}
	return flags
}

// portsText returns a range in nft syntax.
func portsText(r forward.PortRange) string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

func (e Element) write(b *strings.Builder, columns []Column) {
	for i, c := range columns {
		if i > 0 {
			b.WriteString(" . ")
		}
		switch c {
		case ColumnInterface:
			b.WriteString(strconv.Quote(e.Interface))
		case ColumnBanned:
			b.WriteString(e.Banned.First.String())
			if e.Banned.Last != e.Banned.First {
				b.WriteString("-" + e.Banned.Last.String())
			}
		case ColumnClient:
			if e.Client.IsSingleIP() {
				b.WriteString(e.Client.Addr().String())
			} else {
				b.WriteString(e.Client.String())
			}
		case ColumnListen, ColumnDialled:
			b.WriteString(e.Listen.String())
		case ColumnServer, ColumnSource:
			b.WriteString(e.Server.String())
		case ColumnPort:
			b.WriteString(portsText(e.Ports))
		case ColumnTo:
			b.WriteString(e.To.String())
		case ColumnToPort:
			b.WriteString(strconv.Itoa(int(e.ToPort)))
		}
	}
}
