package dialogue

import (
	"bytes"

	"ftpgate/internal/core/ftp"
)

// introduces handles a server's line before the client's own login goes on; false: it is for the client.
func (d *Dialogue) introduces(s *Step, r request, line ftp.ServerLine) bool {
	n := d.naming
	if n == nil {
		return false
	}
	welcome := r.verb == greeting && line.Code/100 == 2
	switch {
	case r.verb == greeting && line.Code/100 > 2: // the session ends with it
		return false
	case r.verb == "USER" && len(n.replay) > 0 && line.Code/100 != 3: // the answer, without a password
		n.replay = nil
		d.showGreeting(s, line)
		return false
	case r.verb != greeting && len(n.replay) == 0 && !r.silent:
		d.showGreeting(s, line)
		return false
	case welcome:
		d.keepGreeting(line)
	}
	if !line.Last || line.Code/100 == 1 {
		return true
	}
	d.answered()
	if r.verb == "USER" {
		d.login(s, r, line.Code)
	}
	d.sendNext(s)
	return true
}

// keepGreeting keeps a line of the server's greeting, without its code.
func (d *Dialogue) keepGreeting(line ftp.ServerLine) {
	text := line.Text
	if len(text) > 3 && (text[3] == '-' || text[3] == ' ') && bytes.HasPrefix(text, codeText(line.Code)) {
		text = text[4:]
	}
	kept := 0
	for _, l := range d.naming.banner {
		kept += len(l)
	}
	if kept+len(text) < maxHeldBack {
		d.naming.banner = append(d.naming.banner, bytes.Clone(text))
	}
}

func codeText(code int) []byte {
	return []byte{'0' + byte(code/100), '0' + byte(code/10%10), '0' + byte(code%10)}
}

// showGreeting puts the server's greeting in front of its answer to the login, as lines of that reply.
func (d *Dialogue) showGreeting(s *Step, answer ftp.ServerLine) {
	if !answer.First {
		return
	}
	for _, text := range d.naming.banner {
		s.ToClient = appendLine(s.ToClient, replyLine(answer.Code, '-', text))
	}
	d.naming.banner = nil
}

// replyLine is a line of a reply.
func replyLine(code int, separator byte, text []byte) ftp.ServerLine {
	all := append(append(codeText(code), separator), text...)
	return ftp.ServerLine{Text: all, First: true, Ending: ftp.EndCRLF}
}

// sendNext sends the server the next of what the client said before it named the server. After the last one
// the client reads the greeting, unless it waits for the answer to its login.
func (d *Dialogue) sendNext(s *Step) {
	n := d.naming
	if len(n.replay) > 0 {
		c := n.replay[0]
		n.replay = n.replay[1:]
		s.send(c)
		r := d.queue.add(c.Verb)
		r.silent = c.Verb == "OPTS" || c.Verb == "CLNT"
		if c.Verb == "USER" {
			r.user = string(c.Arg)
		}
		return
	}
	last := len(n.banner) - 1
	for i, text := range n.banner {
		separator := byte('-')
		if i == last {
			separator = ' '
		}
		s.ToClient = appendLine(s.ToClient, replyLine(n.answer, separator, text))
	}
	if last < 0 {
		s.say(n.answer, "connected")
	}
	n.banner = nil
}
