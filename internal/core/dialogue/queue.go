package dialogue

import (
	"slices"

	"ftpgate/internal/core/ftp"
)

// maxOutstanding is how many commands may wait for their replies. More wait in the client's own socket.
const maxOutstanding = 16

// queue holds the commands that the server has not completely answered, in the order in which they were sent.
// It decides which of them a reply answers, and which command may be sent now.
//
// Outside a transfer it has one command at a time, and perhaps optional ones, which get one more reply or
// none:
//
//	ABOR?  PASV
//
// An ABOR outside a transfer is ignorable: servers answer it, but some do not. So it holds up no other
// command. The first reply that fits it is its own; one that fits a later command alone shows that it gets
// none.
//
// While a transfer is under way, other commands follow it, as on a direct connection. Servers answer them at
// once, or one at a time when the transfer is over, so the code of a reply decides which command it answers:
//
//	RETR  NOOP  STAT  ABOR
//	▲     ▲     ▲     └─ has no reply of its own if the server answers it with the transfer
//	│     └─────┴─ in this order: 200, 211-213, 257, 550 ...
//	└─ 1yz, 226, 425, 426 ...
//
// A wrong guess does not reorder lines: replies are forwarded in the order in which they arrive. It costs a
// wrong line in the session's record, or a transfer that ends one reply too early or too late for the
// gateway.
type queue struct {
	requests []request
	sent     int  // how many commands the client has sent; the number of the last one
	current  int  // the number of the command that the reply under way answers; noRequest: none
	unsure   int  // the last command that the server may have dropped with an ABOR before it: see add
	forgot   bool // an optional command was dropped: its reply may be mistaken for a later one's
}

// request is a command under way.
type request struct {
	verb      string // as the client sent it
	user      string // of USER
	number    int    // of the client's commands; the server's greeting has number 0
	optional  bool   // it may have got its last reply: it blocks nothing
	transfer  bool   // it uses a data connection, and the server has not ended it
	started   bool   // a transfer: the server answered with 1yz
	hasData   bool   // a transfer: the data connection is negotiated
	aborted   bool   // a transfer: the client sent ABOR after it
	glued     bool   // PASS without a space after the verb: perhaps another command
	ignorable bool   // an optional one that most servers answer, and that this one has not answered yet
	silent    bool   // the client was answered before: it does not read this answer
	overtaken bool   // an optional one: a later command was answered, so no reply to this one can follow
}

const (
	greeting  = "(connect)" // stands for the command that the server's first reply answers
	blankLine = ""          // is the verb of an empty line: some servers answer that
	noRequest = -1
)

// transfers are the commands that use a data connection.
var transfers = []string{"RETR", "STOR", "STOU", "APPE", "LIST", "NLST", "MLSD"}

// Negotiates reports whether a command negotiates a data connection.
func Negotiates(verb string) bool {
	return verb == "PASV" || verb == "EPSV" || verb == "PORT" || verb == "EPRT"
}

// overtakes reports whether a command may go to the server while a transfer is under way: all but those that
// the gateway answers itself, those whose answer it must act on, and other transfers.
func overtakes(line ftp.ClientLine) bool {
	switch line.Command.Verb {
	case blankLine:
		return line.Blank()
	case "USER", "PASS", "ACCT", "REIN", "AUTH", "CCC", "PBSZ", "PROT", "ADAT", "CONF", "ENC", "MIC", "CPSV",
		"SSCN", "PASV", "EPSV", "PORT", "EPRT", "LPSV", "LPRT", "ALGS":
		return false
	}
	return !slices.Contains(transfers, line.Command.Verb)
}

// binding reports whether the gateway must see the answer to a command before the next command.
func binding(verb string) bool {
	switch verb {
	case greeting, "USER", "PASS", "ACCT", "REIN", "AUTH":
		return true
	}
	return Negotiates(verb) || slices.Contains(transfers, verb)
}

// isLogin reports whether a command belongs to a login.
func isLogin(verb string) bool { return verb == "USER" || verb == "PASS" || verb == "ACCT" }

// accepts reports whether a line can be sent now.
func (q *queue) accepts(line ftp.ClientLine) bool {
	required, ignorable, inTransfer, waits := 0, 0, false, false
	for i := range q.requests {
		switch r := &q.requests[i]; {
		case r.optional:
			if r.ignorable {
				ignorable++
			}
		case r.transfer:
			required++
			inTransfer, waits = true, !r.hasData
		case r.number <= q.unsure && !inTransfer && !binding(r.verb):
		case binding(r.verb):
			return false
		default:
			required++
		}
	}
	switch {
	case required+ignorable == maxOutstanding:
		return false
	case required == 0:
		changesConnection := line.Command.Verb == "AUTH" || line.Command.Verb == "REIN"
		return !changesConnection || q.doubtfulLogin() == nil
	case !inTransfer:
		return false
	case waits && required == 1 && Negotiates(line.Command.Verb): // STOR before PASV
		return true
	}
	return overtakes(line)
}

// add appends a sent command. If there are too many, it drops the oldest optional one, but never a login:
// a login becomes optional only behind another optional one. Commands that followed the ABOR of a transfer
// become optional: pure-ftpd may drop what it reads together with an ABOR.
func (q *queue) add(verb string) *request {
	if len(q.requests) == maxOutstanding {
		oldest := slices.IndexFunc(q.requests, func(r request) bool { return r.optional && !isLogin(r.verb) })
		q.requests, q.forgot = slices.Delete(q.requests, oldest, oldest+1), true
	}
	if q.transfer() == nil {
		for i := range q.requests {
			r := &q.requests[i]
			r.optional = r.optional || r.number <= q.unsure && !binding(r.verb)
		}
	}
	optional := verb == blankLine
	if verb == "ABOR" {
		t := q.transfer()
		if t != nil {
			t.aborted = true
		}
		// While another ABOR may still get an answer, the next one could belong to either.
		optional = t == nil || q.optionalWith(verb) != nil
	}
	q.requests = append(q.requests, request{verb: verb, number: q.sent, optional: optional})
	r := q.last()
	r.ignorable = verb == "ABOR" && q.transfer() == nil
	return r
}

// last returns the command that was sent last.
func (q *queue) last() *request { return &q.requests[len(q.requests)-1] }

// dropLast removes the last command, which was not sent.
func (q *queue) dropLast() { q.requests = q.requests[:len(q.requests)-1] }

// transfer returns the transfer under way; nil: there is none.
func (q *queue) transfer() *request {
	for i := range q.requests {
		if q.requests[i].transfer {
			return &q.requests[i]
		}
	}
	return nil
}

// negotiation returns the first command that negotiates a data connection; nil: there is none.
func (q *queue) negotiation() *request {
	return q.find(func(r *request) bool { return Negotiates(r.verb) })
}

// required returns the first command but a transfer that must get a reply; nil: there is none.
func (q *queue) required() *request {
	return q.find(func(r *request) bool { return !r.optional && !r.transfer })
}

// doubtfulLogin returns the first USER, PASS or ACCT that may have been answered, or not; nil: there is none.
func (q *queue) doubtfulLogin() *request {
	return q.find(func(r *request) bool { return r.optional && isLogin(r.verb) })
}

// abortBefore reports whether an ABOR before a command, or its transfer, must still get an answer.
func (q *queue) abortBefore(r request) bool {
	abort := q.find(func(r *request) bool { return r.verb == "ABOR" && !r.optional })
	return abort != nil && abort.number < r.number
}

// find returns the first command for which is holds; nil: there is none.
func (q *queue) find(is func(*request) bool) *request {
	for i := range q.requests {
		if r := &q.requests[i]; is(r) {
			return r
		}
	}
	return nil
}

// pending returns the first command with this verb; nil: there is none.
func (q *queue) pending(verb string) *request {
	return q.find(func(r *request) bool { return r.verb == verb })
}

// awaits reports whether a reply is outstanding.
func (q *queue) awaits() bool { return q.transfer() != nil || q.required() != nil }

// answering returns the command that the reply under way answers; nil: none.
func (q *queue) answering() *request {
	return q.find(func(r *request) bool { return r.number == q.current })
}

// begin handles the beginning of a reply.
func (q *queue) begin(code int) {
	q.current = noRequest
	if r := q.match(code); r != nil {
		q.current = r.number
	}
}

// answered removes the command that the reply under way answers: this is its last reply.
func (q *queue) answered() {
	i := slices.IndexFunc(q.requests, func(r request) bool { return r.number == q.current })
	if i < 0 {
		return
	}
	r := q.requests[i]
	if r.transfer {
		q.makeOptional("ABOR")
	}
	if r.aborted {
		q.unsure = q.sent
	}
	before := q.requests[:i]
	for j := range before {
		if !r.optional {
			before[j].overtaken, before[j].ignorable = true, false
		}
	}
	before = slices.DeleteFunc(before, func(r request) bool { return r.optional && isLogin(r.verb) })
	q.requests = append(before, q.requests[i+1:]...)
}

// abandonTransfer makes a transfer and its ABOR optional: the server ended them without a reply, or with a
// 1yz (pure-ftpd does), and may still reply to them.
func (q *queue) abandonTransfer() {
	t := q.transfer()
	t.verb, t.transfer, t.optional = "ABOR", false, true
	q.makeOptional("ABOR")
}

// dropOptionalBefore removes the optional commands before the one that the reply under way answers beyond
// doubt: servers answer in order, so none of them gets another reply.
func (q *queue) dropOptionalBefore() {
	for i := range q.requests {
		if q.requests[i].number == q.current {
			before := slices.DeleteFunc(q.requests[:i], func(r request) bool { return r.optional })
			q.requests = append(before, q.requests[i:]...)
			return
		}
	}
}

// makeOptional makes all commands with this verb optional.
func (q *queue) makeOptional(verb string) {
	for i := range q.requests {
		if r := &q.requests[i]; r.verb == verb {
			r.optional = true
		}
	}
}
