package dialogue

// match returns the command that a reply with this code answers; nil: the reply is unsolicited.
func (q *queue) match(code int) *request {
	if code == 227 || code == 229 { // the answer to a negotiation, or a mismatch
		return q.matchPassive()
	}
	if r := q.matchIgnorable(code); r != nil {
		return r
	}
	if t := q.transfer(); t != nil {
		return q.matchInTransfer(t, code)
	}
	next := q.required()
	switch login := q.doubtfulLogin(); {
	case login != nil && isLoginAnswer(code, login.verb) && (next == nil || mayWait(next.verb)):
		if next != nil {
			next.optional = true // or it was this one's answer, and the login has none
		}
		return login
	case code == 225 || code == 226 || code == 426: // the second answer of two to ABOR and its transfer
		if abort := q.secondAnswer(); abort != nil {
			return abort
		}
	case code == 500:
		if blank := q.optionalWith(blankLine); blank != nil {
			if next != nil && mayWait(next.verb) {
				next.optional = true // or it was this one's answer, and the blank line has none
			}
			return blank
		}
	}
	switch {
	case next == nil:
		return q.optionalFor(code)
	case !canAnswer(code, next.verb):
		if r := q.optionalFor(code); r != nil {
			if isLogin(next.verb) && (code/10 == 50 || code == 202) {
				next.optional = true // as above
			}
			return r
		}
	}
	return next
}

// matchIgnorable returns the first ignorable command, if a reply with this code counts as its answer although
// other commands wait behind it; nil: it does not.
func (q *queue) matchIgnorable(code int) *request {
	r := q.find(func(r *request) bool { return r.ignorable })
	if r == nil {
		return nil
	}
	next := q.find(func(later *request) bool { return !later.optional && later.number > r.number })
	switch {
	case next == nil || next.started:
		return nil
	case code == 500, code == 502: // the server does not know this command, or it does not know the next one
		if !next.transfer && mayWait(next.verb) {
			next.optional = true
		}
		return r
	case isAnswer(code, r.verb):
		return r
	}
	return nil
}

// isAnswer reports whether a reply with this code is the usual answer to an ignorable command (RFC 959
// section 5.4), and to no other command that may wait behind it.
func isAnswer(code int, verb string) bool {
	switch verb {
	case "ABOR":
		return code == 225 || code == 226
	case "STAT":
		return code == 211 || code == 212
	}
	return verb == "QUIT" && code == 221
}

// mayWait reports whether a command may become optional, because a reply may have been its answer or another
// one's. A login may: while it is in doubt (doubtfulLogin), it gets all answers that fit a login, so that
// none is missed. Negotiations and transfers are sent only after a login.
func mayWait(verb string) bool { return !binding(verb) || isLogin(verb) }

// isLoginAnswer reports whether a reply with this code counts as the answer to a login that is in doubt.
func isLoginAnswer(code int, verb string) bool {
	return code/10 == 23 || code/10 == 33 && verb == "USER" || code >= 400 && code/10 != 50
}

// optionalFor returns the first optional command that a reply with this code may answer; nil: there is none.
func (q *queue) optionalFor(code int) *request {
	return q.find(func(r *request) bool {
		return r.optional && (!isLogin(r.verb) || code/10 == 23 || code >= 300)
	})
}

// canAnswer reports whether a reply with this code can be the answer to a command, although it may also
// answer an optional one. It is strict where a wrong guess would count a failed login as a success, or miss a
// success. 202 is also an answer to ALLO.
func canAnswer(code int, verb string) bool {
	switch verb {
	case "PASV", "EPSV":
		return code/100 != 2
	case "USER", "PASS", "ACCT": // RFC 959 section 5.4, RFC 2228 section 5.3
		return code/10 != 50 && code/100 >= 4 || code/10 == 23 || code/10 == 33
	case "AUTH": // RFC 2228 section 5.3
		return code/100 >= 4 || code/10 == 23 || code/10 == 33
	}
	return true
}

// matchPassive returns the command that a 227 or 229 answers: the pending negotiation, else the next command,
// which it does not fit, but never an optional one.
func (q *queue) matchPassive() *request {
	if r := q.negotiation(); r != nil {
		return r
	}
	if next := q.required(); next != nil {
		return next
	}
	return q.transfer()
}

// matchInTransfer is match while the transfer t is under way.
func (q *queue) matchInTransfer(t *request, code int) *request {
	next := q.required()
	switch {
	case next == nil && code == 500 && t.started:
		if blank := q.optionalWith(blankLine); blank != nil {
			return blank
		}
		return t
	case next == nil && (code == 225 || code == 226) && !t.started:
		if abort := q.secondAnswer(); abort != nil {
			return abort
		}
		return t
	case next == nil, code/100 == 1:
		return t
	case code == 221:
		if quit := q.pending("QUIT"); quit != nil {
			return quit
		}
		return next
	case next.verb == "ABOR":
		return q.matchAbort(t, next, code)
	case t.started && binding(next.verb): // STOR before PASV: the transfer waits for it
		return next
	case code == 250 && answersWith250(next.verb):
		return next
	case endsTransfer(code, t.started):
		return t
	}
	return next
}

// matchAbort is match while the transfer t is under way, and the next command after it is ABOR.
func (q *queue) matchAbort(t, abort *request, code int) *request {
	later := q.find(func(r *request) bool { return !r.optional && !r.transfer && r.number > abort.number })
	switch {
	case t.started && code/10 == 50: // the server does not know ABOR
		return abort
	case later == nil || !t.started:
		return t
	case code == 250 && answersWith250(later.verb), !endsTransfer(code, true):
		return later // the server sends nothing more about the transfer and ABOR
	}
	return t
}

// endsTransfer reports whether a final reply with this code ends a transfer rather than another waiting
// command (RFC 959 section 5.4).
func endsTransfer(code int, started bool) bool {
	switch code {
	case 225, 226, 250, 421, 425, 426, 451, 452, 551, 552:
		return true
	}
	return !started && code >= 400
}

// answersWith250 reports whether 250 is the usual answer to a command (RFC 959 section 5.4, RFC 3659).
func answersWith250(verb string) bool {
	switch verb {
	case "CWD", "XCWD", "CDUP", "XCUP", "DELE", "RMD", "XRMD", "RNTO", "MLST", "SMNT":
		return true
	}
	return false
}

// optionalWith returns the first optional command with this verb; nil: there is none.
func (q *queue) optionalWith(verb string) *request {
	return q.find(func(r *request) bool { return r.optional && r.verb == verb })
}

// secondAnswer returns the optional ABOR that a 225 or 226 answers; nil: there is none.
func (q *queue) secondAnswer() *request {
	return q.find(func(r *request) bool { return r.optional && r.verb == "ABOR" && !r.overtaken })
}
