// Package script is the language in which a test says what the two ends of one FTP session do: a script of
// the client and a script of the server, step by step. It reads, writes, draws and shortens such pairs. It
// opens no connection.
//
// A pair is a text file. A line is one step of one end: C or S, a verb, and what the verb wants. Both ends
// carry out their own steps in order, at the same time. A blank line ends a block; blocks have no meaning
// but that a pair that fails is shortened by whole blocks first.
//
//	# a comment
//	limit ROW C got "504    the first thing that differs, and the row of docs/limits.md that says why;
//	                        "limit ROW C hangs": the session hangs, at whatever end;
//	                        "limit ROW may kernel ...": it differs at times, over the kernel path
//	ipv6                    both ends have IPv6, and IPv4 without this line
//	do pasv                 a fragment: what many pairs begin with (see fragments)
//	do say NOOP => 200 ok   a command and its reply
//
//	C send RETR file        a line; CRLF is added; \| ends one write and begins the next
//	C raw RETR f            bytes, as they are
//	C urgent \xf4\xff       bytes, each of them as TCP's urgent data (RFC 959 section 4.1.3)
//	S expect RETR           the next line begins with this
//	C readable              says whether a line waits to be read at this moment
//	S end                   the control connection ends now; lines that stand before its end are read
//	C half                  nothing more comes: the end of what this end sends (shutdown(2))
//	C close                 C reset: the same with RST
//	S listen                for data, where control arrived; "listen other": at the end's other address
//	S unlisten              stops listening
//	S present               whether a data connection waits to be accepted at this moment
//	S accept                takes it
//	C dial                  connects for data to where the other end listens; "dial port 20", "dial other":
//	                        from this port, from the end's other address
//	C refused               as dial, and says whether it is refused, or reset without a byte
//	S data write 1000       bytes, in order, in the background
//	C data read 1000        waits until as many bytes have come
//	C data end              reads to the end
//	S data half             S data close, S data reset: as those of control, once all that was written has
//	                        left for the kernel; data1 is the end's first data connection, data the last
//	S signal NAME           C wait NAME: what happened at one end, the other one knows
//	S pause 31s             time passes
//
// In texts, \r \n \t \\ \xHH are bytes, and these stand for the end's own data listener: {hostport}
// (192,168,5,1,200,10), {zeros} (192,168,005,001,200,010), {blanks} (192, 168, 5, 1, 200, 10), {p1}, {p2},
// {address}, {port}, {eprt} (|1|192.168.5.1|51210|).
package script

import (
	"fmt"
	"strings"
	"time"
)

// Side is one end of a session.
type Side byte

// The two ends.
const (
	Client Side = 'C'
	Server Side = 'S'
)

// String returns the end's name in messages.
func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "server"
}

// Pair is a script of a client and a script of a server.
type Pair struct {
	Name   string
	About  []string // comments
	Limits []Limit
	IPv6   bool
	Blocks []Block
}

// Block is steps that belong together. The steps of each end are carried out in order.
type Block []Step

// Step is one step of one end.
type Step struct {
	Side  Side
	Verb  string        // with "data " before what is done to a data connection
	Data  int           // for those: which one of the end's data connections, from 1; 0 is the last one
	Text  string        // what send, raw, expect, listen, dial, signal and wait want
	Count int           // bytes
	Time  time.Duration // of a pause
}

// Limit says that a pair differs through the gateway, and why that stays so.
type Limit struct {
	Row   string // of the table in docs/limits.md
	May   bool   // it is a matter of time: the pair need not differ
	Paths string // "kernel", "relay"; "" for both
	Side  Side
	Text  string // what the first thing that differs begins with, at this end
}

// Hangs reports whether the limit is that the session hangs.
func (l Limit) Hangs() bool { return l.Text == "hangs" }

// Steps returns the steps of one end.
func (p Pair) Steps(s Side) (steps []Step) {
	for _, b := range p.Blocks {
		for _, step := range b {
			if step.Side == s {
				steps = append(steps, step)
			}
		}
	}
	return steps
}

// Pauses returns how much time passes by the scripts' own will.
func (p Pair) Pauses() (sum time.Duration) {
	for _, b := range p.Blocks {
		for _, step := range b {
			sum += step.Time
		}
	}
	return sum
}

// Size returns how many steps there are.
func (p Pair) Size() (n int) {
	for _, b := range p.Blocks {
		n += len(b)
	}
	return n
}

// String writes a step as Parse reads it.
func (s Step) String() string {
	verb, arg := s.Verb, s.Text
	if rest, ok := strings.CutPrefix(verb, "data "); ok && s.Data > 0 {
		verb = fmt.Sprintf("data%d %s", s.Data, rest)
	}
	switch verbs[s.Verb] {
	case wantsCount:
		arg = fmt.Sprint(s.Count)
	case wantsTime:
		arg = s.Time.String()
	}
	return strings.TrimRight(fmt.Sprintf("%c %s %s", s.Side, verb, arg), " ")
}

// String writes a pair as Parse reads it. Fragments are written out.
func (p Pair) String() string {
	var b strings.Builder
	for _, line := range p.About {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	for _, l := range p.Limits {
		fmt.Fprintln(&b, l)
	}
	if p.IPv6 {
		fmt.Fprintln(&b, "ipv6")
	}
	for _, block := range p.Blocks {
		if len(block) > 0 && b.Len() > 0 {
			b.WriteByte('\n')
		}
		for _, step := range block {
			fmt.Fprintln(&b, step)
		}
	}
	return b.String()
}

// String writes a limit as Parse reads it.
func (l Limit) String() string {
	when := ""
	if l.May {
		when = "may "
	}
	if l.Paths != "" {
		when += l.Paths + " "
	}
	return fmt.Sprintf("limit %s %s%c %s", l.Row, when, l.Side, l.Text)
}
