package importer

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/importer/rule"
)

// String returns the file: the forwards and outbounds, and as comments what was not carried over, and what to
// delete and to add. "ftpgate check" finds no fault in it if there is a forward or an outbound.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by ftpgate import from: %s.\n", r.Format)
	b.WriteString("# Read the comments, then: ftpgate check -c FILE\n")
	for _, f := range r.Forwards {
		b.WriteByte('\n')
		writeForward(&b, f)
	}
	if len(r.Left) > 0 {
		b.WriteString("\n# Not carried over:\n")
	}
	left := slices.Clone(r.Left)
	slices.SortStableFunc(left, func(a, b rule.Note) int { return a.Line - b.Line })
	for i, n := range left {
		if i == 0 || n.Place != left[i-1].Place {
			writePlace(&b, "#   ", n.Place)
		}
		writeComment(&b, "#     ", n.Reason)
	}
	if len(r.Deletions) > 0 {
		b.WriteString("\n# To delete from the old set-up:\n")
	}
	for _, d := range r.Deletions {
		fmt.Fprintf(&b, "#   %s\n", printable(d))
	}
	if len(r.Additions) > 0 {
		b.WriteString("\n# To add, because the filter refuses by default:\n")
	}
	for _, a := range r.Additions {
		fmt.Fprintf(&b, "#   %s\n", printable(a))
	}
	return b.String()
}

func writeForward(b *strings.Builder, f Forward) {
	for _, p := range f.Places {
		writePlace(b, "# ", p)
	}
	for _, c := range f.Comments {
		writeComment(b, "# ", c)
	}
	if f.Outbound != nil {
		b.WriteString("[[outbound]]\n")
	} else {
		b.WriteString("[[forward]]\n")
	}
	text := func(key, value string) {
		if value != "" {
			fmt.Fprintf(b, "%s = %s\n", key, quoted(value))
		}
	}
	if f.Outbound == nil {
		text("name", f.Name)
		listen := f.Listen
		listen.Interface = ""
		text("listen", listen.String())
		text("server", f.Server.String())
	}
	text("interface", f.Listen.Interface)
	if f.Outbound != nil {
		writeDestinations(b, f.Outbound)
	}
	if f.Tracking != forward.TrackingProxy {
		text("tracking", f.Tracking.String())
	}
	if len(f.Clients) > 0 {
		clients := make([]string, len(f.Clients))
		for i, c := range f.Clients {
			clients[i] = quoted(c.String())
			if c.IsSingleIP() {
				clients[i] = quoted(c.Addr().String())
			}
		}
		fmt.Fprintf(b, "clients = [%s]\n", strings.Join(clients, ", "))
	}
	text("server_ports", f.ServerPorts.String())
	text("passive_ports", f.PassivePorts.String())
}

// writeDestinations writes which servers an outbound reaches, where these are not all at port 21.
func writeDestinations(b *strings.Builder, o *forward.Outbound) {
	if len(o.Ports) > 0 && !slices.Equal(o.Ports, []uint16{forward.DefaultServerPort}) {
		fmt.Fprintf(b, "ports = %s\n", strings.ReplaceAll(fmt.Sprint(o.Ports), " ", ", "))
	}
	if o.RedirectPort != 0 {
		fmt.Fprintf(b, "redirect_port = %d\n", o.RedirectPort)
	}
	if len(o.Servers) > 0 {
		servers := list(o.Servers)
		for i, s := range servers {
			servers[i] = quoted(s)
		}
		fmt.Fprintf(b, "servers = [%s]\n", strings.Join(servers, ", "))
	}
}

// quoted returns a TOML string. What comes here has no control characters: package forward refuses them.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// maxQuote bounds how much of a line is quoted.
const maxQuote = 300

// writePlace writes where a rule stands, and what it says.
func writePlace(b *strings.Builder, indent string, p rule.Place) {
	text := printable(p.Text)
	if len(text) > maxQuote {
		cut := maxQuote
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + " ..."
	}
	switch {
	case p.Line > 0:
		fmt.Fprintf(b, "%sline %d: %s\n", indent, p.Line, text)
	case text != "":
		fmt.Fprintf(b, "%s%s\n", indent, text)
	}
}

// writeComment writes a sentence in lines that a terminal shows.
func writeComment(b *strings.Builder, indent, text string) {
	const width = 100
	line := indent
	for i, word := range strings.Fields(printable(text)) {
		if i > 0 && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
}

// printable returns text that a comment of TOML may contain, and that a terminal does not act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
