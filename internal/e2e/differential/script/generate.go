package script

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Generate draws a pair. The same seed gives the same pair.
//
// What it draws runs the same each time when client and server are connected directly: an end never looks
// at what depends on time. It keeps off what the gateway changes by a rule of docs/limits.md.
func Generate(seed uint64) Pair {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	g.pair = Pair{Name: fmt.Sprintf("seed-%d", seed), About: []string{fmt.Sprintf("drawn with the seed %d",
		seed)}}
	g.greet()
	g.login()
	for n := 1 + g.IntN(5); n > 0 && !g.ended; n-- {
		g.exchange()
	}
	if !g.ended {
		g.goodbye()
	}
	return g.pair
}

// generator draws one pair.
type generator struct {
	*rand.Rand
	pair    Pair
	block   Block
	signals int
	ended   bool // nothing can follow

	oneReply bool // to a transfer and its ABOR
}

// add adds steps to the block, with the values in place of verbs of fmt.
func (g *generator) add(text string, args ...any) {
	g.block = append(g.block, Steps(fmt.Sprintf(text, args...))...)
}

// end ends the block.
func (g *generator) end() {
	g.pair.Blocks = append(g.pair.Blocks, g.block)
	g.block = nil
}

// often is true in one of n cases.
func (g *generator) often(n int) bool { return g.IntN(n) == 0 }

// oneOf draws one of several.
func oneOf[T any](g *generator, all ...T) T { return all[g.IntN(len(all))] }

// known makes one end wait for the other: what it did is known there.
func (g *generator) known(by, to Side) {
	g.signals++
	g.add("%c signal s%d\n%c wait s%d", by, g.signals, to, g.signals)
}

// greet draws a greeting.
func (g *generator) greet() {
	g.reply("220")
	if g.often(8) {
		g.add("S raw no line of a reply\\r\\n\nC expect no line of a reply")
	}
	g.end()
}

// login draws a login.
func (g *generator) login() {
	if g.often(4) {
		g.command("USER demo", "230")
	} else {
		g.command("USER demo", "331")
		g.command("PASS secret", oneOf(g, "230", "230", "202"))
	}
	g.end()
}

// commands are no transfers, and nothing that the gateway acts on.
var commands = []string{"NOOP", "PWD", "CWD /a b", "CDUP", "TYPE I", "TYPE A", "SYST", "XMD5 f",
	"XSHA256 f;1", "SIZE f",
	"MDTM f", "MFMT 20200101000000 f", "DELE f", "MKD d", "RMD d", "RNFR a", "RNTO b", "REST 100",
	"SITE CHMOD 644 f", "HELP", "STAT f", "MLST f", "AVBL", "CSID Name=x;", "CLNT x", "LANG en", "MODE S",
	"STRU F", "ALLO 100", "hash f", "xcrc f", "X-VERYLONGVERB f", "THMB a b"}

// finals are final replies of commands.
var finals = []string{"200", "202", "211", "212", "213", "214", "215", "250", "257", "350", "450",
	"451", "500",
	"501", "502", "503", "504", "550", "552", "553"}

// exchange draws one thing that happens in a session.
func (g *generator) exchange() {
	switch g.IntN(8) {
	case 0:
		g.command(oneOf(g, commands...), oneOf(g, finals...))
	case 1:
		g.pipeline()
	case 2:
		if g.oneReply { // to two commands; the next one to ABOR could be the missing one
			return
		}
		g.command("ABOR", oneOf(g, "225", "226", "500", "502"))
	default:
		g.transfer()
		return
	}
	g.end()
}

// command draws a command with its reply.
func (g *generator) command(command, code string) {
	g.add("C %s", g.split("send", command))
	g.add("S expect %s", command)
	lines := g.replyLines(code)
	if len(lines) > 1 && g.often(2) { // the client speaks next: the code cannot be taken for a line within
		lines[len(lines)-1] = code
	}
	g.send(lines)
	if len(lines) == 1 && code != "221" && g.often(20) {
		g.add("S raw \\r\\n\nC expect \\r\\n")
	}
}

// pipeline draws commands in one write. The server answers each in turn.
func (g *generator) pipeline() {
	var names []string
	for range 2 + g.IntN(4) {
		names = append(names, oneOf(g, commands...))
	}
	g.add("C %s", g.split("send", strings.Join(names, `\r\n`)))
	for _, name := range names {
		g.add("S expect %s", name)
		g.reply(oneOf(g, finals...))
	}
}

// reply draws a reply's lines.
func (g *generator) reply(code string) {
	g.send(g.replyLines(code))
}

// send sends lines from the server.
func (g *generator) send(lines []string) {
	g.add("S %s", g.split("send", strings.Join(lines, `\r\n`)))
	for _, line := range lines {
		g.add("C expect %s", line)
	}
}

// replyLines draws the lines of a reply.
func (g *generator) replyLines(code string) (lines []string) {
	switch g.IntN(8) {
	case 0:
		return []string{code}
	case 1, 2:
		lines = append(lines, code+"-first")
		other := "226"
		if code == other {
			other = "250"
		}
		for range g.IntN(4) {
			lines = append(lines, oneOf(g, " a line", "a line", code+"-more", " "+code+" not this",
				other+" not this",
				"299 (1,2,3,4,5,6)", "", `\x20\x20`))
		}
		return append(lines, code+oneOf(g, " end", `\x20`))
	}
	return []string{code + oneOf(g, " ok", " a longer text, with (1,2,3,4,5,6) in it", `\x20`, "  x")}
}

// split draws where writes end, in a text of a step.
func (g *generator) split(verb, text string) string {
	if !g.often(3) {
		return verb + " " + text
	}
	pieces := tokens(text)
	for range 1 + g.IntN(3) {
		at := g.IntN(len(pieces) + 1)
		pieces = append(pieces[:at:at], append([]string{`\|`}, pieces[at:]...)...)
	}
	return verb + " " + strings.Join(pieces, "")
}

// tokens splits a text into what stands for bytes.
func tokens(text string) (all []string) {
	for text != "" {
		n := 1
		switch {
		case strings.HasPrefix(text, `\x`):
			n = 4
		case text[0] == '\\':
			n = 2
		case text[0] == '{':
			n = strings.IndexByte(text, '}') + 1
		}
		all, text = append(all, text[:n]), text[n:]
	}
	return all
}

// goodbye draws how a session ends.
func (g *generator) goodbye() {
	switch g.IntN(6) {
	case 0, 1:
		g.command("QUIT", "221")
		g.add("S close\nC end\nC close")
	case 2:
		g.add("C close\nS end\nS close")
	case 3:
		// A reply before it may end with a bare code, which ends a reply only where nothing follows at once.
		g.add("C send NOOP\nS expect NOOP\nS send 200 ok\nC expect 200 ok")
		g.add("S send 421 too late\nS close\nC expect 421\nC end\nC close")
	case 4:
		g.add("C send QUIT\nC half\nS expect QUIT\nS end\nS send 221 bye\nS close\nC expect 221\nC end")
	case 5: // the ends close without a word, the client first
		return
	}
	g.end()
}
