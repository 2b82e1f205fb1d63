package ftp

import (
	"bytes"
	"errors"
)

// ClientLine is a line from a client, parsed once. Its slices are parts of the line and change with it.
type ClientLine struct {
	Telnet  []byte  // the Telnet commands in front of the FTP command; empty: none
	Text    []byte  // the rest of the line, as the client sent it
	Command Command // Text behind leading spaces, parsed; the zero Command if that is no command
	IsReply bool    // Text is no command and reads like the first line of a reply
}

// ParseClientLine parses a line without its ending. It reports no error: a line that is no command has a
// Command without a verb.
func ParseClientLine(line []byte) ClientLine {
	var l ClientLine
	l.Telnet, l.Text = CutTelnet(line)
	var err error
	if l.Command, err = ParseCommand(bytes.TrimLeft(l.Text, " ")); err != nil && len(l.Text) > 0 &&
		isDigit(l.Text[0]) {
		_, err := ParseReplyLine(l.Text)
		l.IsReply = err == nil
	}
	return l
}

// Blank reports whether there is nothing in the line.
func (l ClientLine) Blank() bool { return len(l.Text) == 0 && len(l.Telnet) == 0 }

// ServerLine is a line from a server, and its place in the reply that it belongs to. Text is a part of the
// line and changes with it.
type ServerLine struct {
	Text    []byte // without its ending
	Code    int    // of the reply; 0: the line begins no reply and stands in none
	First   bool   // the reply begins with this line
	Last    bool   // the reply is complete with this line
	Endless bool   // the reply exceeds the scanner's limits; Code is 0
}

// Next is Scan for a caller that needs to know what the line is, too.
func (s *ReplyScanner) Next(text []byte, ahead bool) ServerLine {
	l := ServerLine{Text: text, Code: s.code, First: s.code == 0}
	last, err := s.Scan(text, ahead)
	if err != nil {
		_, endless := errors.AsType[*ReplyTooLongError](err)
		return ServerLine{Text: text, Endless: endless}
	}
	l.Last = last
	if l.First { // Scan has found three digits
		l.Code = int(text[0]-'0')*100 + int(text[1]-'0')*10 + int(text[2]-'0')
	}
	return l
}
