package script

import "strings"

// transfer draws a transfer: the negotiation, the command, the data connection, and what becomes of it.
func (g *generator) transfer() {
	if g.often(6) {
		g.negotiation(oneOf(g, "pasv", "epsv", "port", "eprt")) // replaced by the next one
	}
	t := &transfer{generator: g, mode: oneOf(g, "pasv", "epsv", "port", "eprt"), up: g.often(2)}
	t.passive = t.mode == "pasv" || t.mode == "epsv"
	t.command = oneOf(g, "RETR f", "LIST", "NLST", "MLSD", "LIST -l d")
	if t.up {
		t.command = oneOf(g, "STOR f", "APPE f", "STOU")
	}
	t.sender, t.receiver = Server, Client
	if t.up {
		t.sender, t.receiver = Client, Server
	}
	g.negotiation(t.mode)
	switch n := g.IntN(10); {
	case n == 0:
		t.refused()
	case n == 1 && !t.oneReply:
		t.abortedEarly()
	default:
		t.start()
		t.middle()
		t.finish()
	}
	g.end()
}

// offers are how servers word a 227 and a 229: the gateway changes the numbers only.
var offers = map[string][]string{
	"pasv": {"227 Entering Passive Mode ({hostport})", "227 Entering Passive Mode ({hostport}).",
		"227 ={hostport}", "227 ok, {hostport} it is", "227 Entering Passive Mode [{zeros}]"},
	"epsv": {"229 Entering Extended Passive Mode (|||{port}|)", "229 Entering Passive Mode (|||{port}|).",
		"229 (|||{port}|) go on"},
}

func (g *generator) negotiation(mode string) {
	for _, s := range Do(mode) {
		if words := offers[mode]; s.Side == Server && words != nil && s.Verb == "send" {
			s.Text = oneOf(g, words...)
		}
		if s.Verb == "send" && !strings.HasPrefix(s.Text, "{") {
			s.Text = strings.TrimPrefix(g.split("send", s.Text), "send ")
		}
		g.block = append(g.block, s)
	}
}

// transfer is a transfer that is drawn.
type transfer struct {
	*generator
	mode             string
	passive, up      bool
	command          string
	sender, receiver Side
	owed             []string // commands that the server answers behind the transfer
}

// size draws a number of bytes.
func (t *transfer) size() int {
	return oneOf(t.generator, 0, 1, 10, 1000, 5000, 1+t.IntN(70_000), 1+t.IntN(150_000))
}

// connect makes the data connection.
func (t *transfer) connect() {
	if t.passive {
		t.add("C dial\nS accept")
		return
	}
	t.add("S dial%s\nC accept", oneOf(t.generator, "", " port 20", " port 20"))
}

// start draws the command, the data connection and the 1yz, in the orders that there are.
func (t *transfer) start() {
	early := t.passive && t.often(2)
	if early {
		t.add("C dial")
	}
	t.add("C %s\nS expect %s", t.split("send", t.command), t.command)
	if early && t.often(2) {
		t.add("S present")
	}
	first := t.often(2) // the connection before the 1yz
	if early {
		t.add("S accept")
	} else if !t.passive && first {
		t.connect()
	}
	t.reply(oneOf(t.generator, "150", "150", "125"))
	if !early && (t.passive || !first) {
		t.connect()
	}
}

// refused draws a transfer that the server does not begin.
func (t *transfer) refused() {
	dialled := t.passive && t.often(2)
	if dialled {
		t.add("C dial")
	}
	t.add("C %s\nS expect %s", t.split("send", t.command), t.command)
	code := oneOf(t.generator, "550", "450", "425", "553", "226", "250")
	switch {
	case dialled && t.often(2):
		t.add("S accept\nS data close")
		t.reply(code)
		t.add("C data end\nC data close")
	case dialled:
		t.add("S unlisten")
		t.reply(code)
		t.add("C data end\nC data close")
	default:
		t.reply(code)
	}
}

// abortedEarly draws an ABOR before there is a data connection.
func (t *transfer) abortedEarly() {
	t.add("C %s\nS expect %s", t.split("send", t.command), t.command)
	if t.often(2) {
		t.reply("150")
	}
	t.abor()
	if t.passive {
		t.add("S unlisten")
	}
	t.aborReplies()
}

func (t *transfer) abor() {
	telnet := ""
	if t.often(4) {
		telnet = `\xff\xf4\xff\xf2`
		t.add(`C raw \xff\xf4\xff` + "\n" + `C urgent \xf2`)
	}
	t.add("C send ABOR\nS expect %sABOR", telnet)
}

// aborReplies draws what a server says to a transfer and its ABOR.
func (t *transfer) aborReplies() {
	codes := oneOf(t.generator, "226", "225", "426 226", "426 225", "426 502", "451 226", "226 226",
		"226 225")
	for code := range strings.FieldsSeq(codes) {
		t.reply(code)
	}
	t.oneReply = t.oneReply || len(codes) == 3
}

// middle draws data, with commands in between.
func (t *transfer) middle() {
	for range t.IntN(4) {
		n := t.size()
		t.add("%c data write %d\n%c data read %d", t.sender, n, t.receiver, n)
		switch t.IntN(6) {
		case 0, 1:
			t.ask()
		case 2:
			t.add("%c data write 10\n%c data read 10", t.receiver, t.sender)
		}
	}
}

// answers are what servers say to commands in a transfer.
var answers = map[string][]string{
	"NOOP": {"200"}, "STAT": {"211", "212", "213", "450", "502"}, "PWD": {"257", "550"},
	"SIZE f": {"213", "550"}, "CWD d": {"250", "550"}, "XYZZY": {"500", "502"}, "TYPE I": {"200"},
}

// ask draws a command in a transfer. A server that does one thing at a time answers it in the end.
func (t *transfer) ask() {
	name := oneOf(t.generator, "NOOP", "NOOP", "STAT", "PWD", "SIZE f", "CWD d", "XYZZY", "TYPE I")
	t.add("C %s\nS expect %s", t.split("send", name), name)
	if len(t.owed) > 0 || t.often(4) {
		t.owed = append(t.owed, name)
		return
	}
	t.reply(oneOf(t.generator, answers[name]...))
}

// pay draws the replies that the server owes.
func (t *transfer) pay() {
	for _, name := range t.owed {
		t.reply(oneOf(t.generator, answers[name]...))
	}
	t.owed = nil
}

// finish draws the end of a transfer.
func (t *transfer) finish() {
	switch n := t.IntN(12); {
	case n == 0:
		t.senderBreaks()
	case n == 1:
		t.receiverBreaks()
	case n <= 3 && !t.oneReply: // see exchange
		t.aborted()
	case n == 4:
		t.quits()
	case n == 5:
		t.controlEnds()
	default:
		t.completed()
	}
}

// final draws the transfer's last reply, and those that are owed.
func (t *transfer) final(codes ...string) {
	t.reply(oneOf(t.generator, codes...))
	t.pay()
}

// completed draws a transfer that ends as it should.
func (t *transfer) completed() {
	n := t.size()
	how := oneOf(t.generator, "close", "close", "half")
	switch {
	case !t.up && t.often(4): // a 226 before the data connection ends
		n = min(n, 20_000) // what fits into the client's socket
		t.add("S data write %d", n)
		t.final("226", "250")
		t.add("S data %s\nC data end", how)
	case t.up && t.often(8): // a server that wants no more
		t.add("C data write %d\nS data read %d", n, n)
		t.final("226", "250")
		t.add("C data close\nS data end\nS data close")
		return
	default:
		t.add("%c data write %d\n%c data %s\n%c data end", t.sender, n, t.sender, how, t.receiver)
		if t.often(2) {
			t.add("%c data close", t.receiver)
		}
		t.final("226", "226", "250")
	}
	if how == "half" {
		t.add("%c data close\n%c data end\n%c data close", t.receiver, t.sender, t.sender)
	}
}

// senderBreaks draws a sender that gives up.
func (t *transfer) senderBreaks() {
	n := 1 + t.size()
	t.add("%c data write %d\n%c data read %d", t.sender, n, t.receiver, n)
	t.known(t.receiver, t.sender)
	how := oneOf(t.generator, "reset", "close")
	if t.up {
		t.add("C data %s\nS data end", how)
		t.final("426", "451", "226")
		return
	}
	if t.often(2) {
		t.add("S data %s\nC data end", how)
		t.final("426", "451")
		return
	}
	t.final("426", "451")
	t.add("S data %s\nC data end", how)
}

// receiverBreaks draws a receiver that wants no more.
func (t *transfer) receiverBreaks() {
	n := 1 + t.size()
	t.add("%c data write %d\n%c data read %d", t.sender, n, t.receiver, n)
	how := oneOf(t.generator, "reset", "close")
	if !t.up {
		t.add("C data %s\nS data end\nS data close", how)
		t.final("426", "451", "226")
		return
	}
	if t.often(2) {
		t.final("452", "552", "426")
		t.add("S data %s\nC data end\nC data close", how)
		return
	}
	t.add("S data %s\nC data end\nC data close", how)
	t.final("452", "552", "426")
}

// aborted draws an ABOR in a transfer. Where the client closes first, the server sees that.
func (t *transfer) aborted() {
	n := 1 + t.size()
	t.add("%c data write %d\n%c data read %d", t.sender, n, t.receiver, n)
	t.known(t.receiver, t.sender)
	switch t.IntN(3) {
	case 0:
		t.abor()
		t.add("S data %s\nC data end", oneOf(t.generator, "close", "reset"))
		t.aborReplies()
	case 1:
		t.abor()
		t.aborReplies()
		t.add("S data %s\nC data end", oneOf(t.generator, "close", "reset"))
	case 2:
		t.add("C send ABOR\nC data %s\nS expect ABOR\nS data end\nS data close",
			oneOf(t.generator, "close", "reset"))
		t.aborReplies()
	}
	t.pay()
}

// quits draws QUIT in a transfer.
func (t *transfer) quits() {
	n := t.size()
	t.add("C send QUIT\nS expect QUIT")
	early := t.often(2)
	if early {
		t.reply("221")
	}
	t.add("%c data write %d\n%c data close\n%c data end", t.sender, n, t.sender, t.receiver)
	t.final("226")
	if !early {
		t.reply("221")
	}
	t.add("S close\nC end\nC close")
	t.ended = true
}

// controlEnds draws a control connection that ends before its transfer does.
func (t *transfer) controlEnds() {
	n := t.size()
	data := []any{t.sender, n, t.sender, t.receiver}
	switch t.IntN(4) {
	case 0:
		t.add("C close\nS end\n%c data write %d\n%c data close\n%c data end\nS close", data...)
	case 1:
		t.add("S send 421 going down\nS close\nC expect 421\nC end")
		t.add("%c data write %d\n%c data close\n%c data end", data...)
	case 2:
		t.add("C half\n%c data write %d\n%c data close\n%c data end", data...)
		t.final("226")
		t.add("S end\nS close\nC end")
	case 3:
		if t.up {
			t.add("C data write %d\nC data close\nC close\nS data end\nS end\nS close", n)
			break
		}
		t.add("C data write 1\nS data read 1\nC close\nS end\n")
		t.add("S data write %d\nS data close\nC data end\nS close", n)
	}
	t.ended = true
}
