package ftp

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of one reply. STAT answers with a whole listing and FEAT with a few dozen lines: a
// client that asks for more than this over the control connection has LIST for it.
const (
	DefaultReplyLines = 4096
	DefaultReplyBytes = 512 << 10
)

// ReplyLine is the first or the last line of a reply, cut into its parts.
type ReplyLine struct {
	Code int    // 100 to 699: RFC 959 section 4.2, and 6yz of RFC 2228
	Sep  byte   // '-' where more lines follow, ' ' where not, 0 where the line ends behind the code
	Text []byte // what follows the separator; a part of the line
}

// ParseReplyLine reads a line without its ending. RFC 959 wants a space or a hyphen behind the
// code; a code that stands alone is a last line, too: servers send it.
//
// It is for first lines. Inside a multi-line reply nothing is parsed: see ReplyScanner.
func ParseReplyLine(line []byte) (ReplyLine, error) {
	if len(line) < 3 || !isDigit(line[0]) || !isDigit(line[1]) || !isDigit(line[2]) {
		return ReplyLine{}, fmt.Errorf("reply %.64q: want a code of three digits", line)
	}
	l := ReplyLine{Code: int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')}
	if l.Code < 100 || l.Code > 699 {
		return ReplyLine{}, fmt.Errorf("reply %.64q: code is not between 100 and 699", line)
	}
	if len(line) == 3 {
		return l, nil
	}
	if line[3] != ' ' && line[3] != '-' {
		return ReplyLine{}, fmt.Errorf("reply %.64q: want a space or a hyphen behind the code", line)
	}
	l.Sep, l.Text = line[3], line[4:]
	return l, nil
}

// ReplyTooLongError tells of a reply that does not end within the limits.
type ReplyTooLongError struct {
	Lines, Bytes int // the limits
}

func (e *ReplyTooLongError) Error() string {
	return fmt.Sprintf("reply is longer than %d lines or %d bytes", e.Lines, e.Bytes)
}

// ReplyScanner finds where replies end, line by line, and keeps nothing of them: for a caller
// that passes lines on as they come. The zero value is ready, with the default limits.
type ReplyScanner struct {
	MaxLines, MaxBytes int // of one reply, bytes without the endings; 0: the default

	code         int // of the multi-line reply under way; 0: none
	lines, bytes int
}

// Code returns the code of the reply that is under way, or 0 between replies.
func (s *ReplyScanner) Code() int { return s.code }

// Scan takes the next line, without its ending, and tells whether the reply is complete with
// it. A reply that begins with `code-` goes on until a line begins with the same code and a
// space (RFC 959 section 4.2); the lines between are anything, other codes included.
//
// The error is a *ReplyTooLongError or one of ParseReplyLine; the scanner then waits for the
// first line of a reply again, but the caller can no longer know where that is.
func (s *ReplyScanner) Scan(line []byte) (done bool, err error) {
	if s.code == 0 {
		l, err := ParseReplyLine(line)
		if err != nil {
			return false, err
		}
		s.code, s.lines, s.bytes = l.Code, 0, 0
		done = l.Sep != '-'
	} else {
		done = endsReply(line, s.code)
	}
	maxLines, maxBytes := orDefault(s.MaxLines, DefaultReplyLines), orDefault(s.MaxBytes, DefaultReplyBytes)
	s.lines++
	s.bytes += len(line)
	if s.lines > maxLines || s.bytes > maxBytes {
		s.code = 0
		return false, &ReplyTooLongError{Lines: maxLines, Bytes: maxBytes}
	}
	if done {
		s.code = 0
	}
	return done, nil
}

// endsReply tells whether line begins with code and a space.
func endsReply(line []byte, code int) bool {
	return len(line) > 3 && line[3] == ' ' && isDigit(line[0]) && isDigit(line[1]) && isDigit(line[2]) &&
		int(line[0]-'0')*100+int(line[1]-'0')*10+int(line[2]-'0') == code
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

// Reply is a whole reply.
type Reply struct {
	Code  int
	Lines []string // at least one; the first and the last without code and separator, the others as they came
}

// ReadReply reads a whole reply. Its errors are those of LineReader.ReadLine, of
// ReplyScanner.Scan, and io.ErrUnexpectedEOF where the stream ends inside the reply.
func ReadReply(r *LineReader, s *ReplyScanner) (Reply, error) {
	var reply Reply
	for {
		line, _, err := r.ReadLine()
		if err == io.EOF && len(reply.Lines) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return Reply{}, fmt.Errorf("read reply: %w", err)
		}
		done, err := s.Scan(line)
		if err != nil {
			return Reply{}, fmt.Errorf("read reply: %w", err)
		}
		if len(reply.Lines) == 0 || done {
			// Cannot fail: Scan has found a code at this line's beginning.
			l, _ := ParseReplyLine(line)
			reply.Code, line = l.Code, l.Text
		}
		reply.Lines = append(reply.Lines, string(line))
		if done {
			return reply, nil
		}
	}
}

// Text returns the reply's text with LF between its lines, without codes.
func (r Reply) Text() string { return strings.Join(r.Lines, "\n") }

// Last returns the text of the last line: the only one of a 227 or a 229 that counts.
func (r Reply) Last() string {
	if len(r.Lines) == 0 {
		return ""
	}
	return r.Lines[len(r.Lines)-1]
}

// AppendTo appends the reply as it goes over the wire. A line in the middle that would end the
// reply gets a space in front of it. It is an error to write a code that has not three digits,
// or a CR, LF or NUL, with which a text from elsewhere could smuggle in a reply of its own.
func (r Reply) AppendTo(dst []byte) ([]byte, error) {
	if r.Code < 100 || r.Code > 699 {
		return dst, fmt.Errorf("write reply: code %d is not between 100 and 699", r.Code)
	}
	if strings.ContainsAny(strings.Join(r.Lines, ""), "\r\n\x00") {
		return dst, errors.New("write reply: CR, LF or NUL in the text")
	}
	last := len(r.Lines) - 1
	if last < 0 {
		return fmt.Appendf(dst, "%d \r\n", r.Code), nil
	}
	for i, line := range r.Lines {
		switch {
		case i == last:
			dst = fmt.Appendf(dst, "%d %s\r\n", r.Code, line)
		case i == 0:
			dst = fmt.Appendf(dst, "%d-%s\r\n", r.Code, line)
		case endsReply([]byte(line), r.Code):
			dst = fmt.Appendf(dst, " %s\r\n", line)
		default:
			dst = fmt.Appendf(dst, "%s\r\n", line)
		}
	}
	return dst, nil
}
