package ftp

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// ClientLine is a line from a client, parsed once. Its slices are parts of the line and change with it.
type ClientLine struct {
	Telnet  []byte  // the Telnet commands in front of the FTP command; empty: none
	Text    []byte  // the rest of the line, as the client sent it
	Command Command // Text after leading spaces, parsed; the zero Command if that is no command
	IsReply bool    // Text is no command and reads like the first line of a reply
	Glued   bool    // Command is a PASS without a space after the verb: perhaps another command
}

// ParseClientLine parses a line without its ending. It reports no error: a line that is no command has a
// Command without a verb. Some servers read only the first four letters: PASSword is a PASS for them. So it
// is one here, and its argument is a secret.
func ParseClientLine(line []byte) ClientLine {
	var l ClientLine
	l.Telnet, l.Text = cutTelnet(line)
	command := bytes.TrimLeft(l.Text, " ")
	var err error
	l.Command, err = ParseCommand(command)
	switch rest, glued := strings.CutPrefix(l.Command.Verb, "PASS"); {
	case glued && rest != "":
		l.Command, l.Glued = Command{Verb: "PASS", Arg: command[len("PASS"):]}, true
	case err != nil && len(l.Text) > 0 && isDigit(l.Text[0]):
		r, err := ParseReplyLine(l.Text)
		l.IsReply = err == nil && (r.Sep != 0 || len(r.Text) == 0) && r.Code < 700 // servers send no others
	}
	return l
}

// Blank reports whether the line is empty.
func (l ClientLine) Blank() bool { return len(l.Text) == 0 && len(l.Telnet) == 0 }

// ServerLine is a line from a server, and its place in the reply that it belongs to. Text is a part of the
// line and changes with it.
type ServerLine struct {
	Text    []byte // without its ending
	Ending  Ending
	Code    int  // of the reply; 0: the line belongs to none
	First   bool // the reply begins with this line
	Last    bool // the reply is complete with this line
	Endless bool // the reply exceeds the scanner's limits; Code is 0
}

// Next is Scan for a caller that also needs the parsed line. A line without a space after its code gets one,
// so that all clients read it as the gateway does.
func (s *ReplyScanner) Next(text []byte, ending Ending, ahead bool) ServerLine {
	l := ServerLine{Text: text, Ending: ending, Code: s.code, First: s.code == 0}
	last, err := s.Scan(text, ahead)
	if err != nil {
		_, endless := errors.AsType[*ReplyTooLongError](err)
		return ServerLine{Text: text, Ending: ending, Endless: endless}
	}
	l.Last = last
	if l.First { // Scan has found three digits
		l.Code = codeOf(text)
		if len(text) > 3 && text[3] != ' ' && text[3] != '-' {
			l.Text = slices.Concat(text[:3], []byte(" "), text[3:])
		}
	}
	return l
}
