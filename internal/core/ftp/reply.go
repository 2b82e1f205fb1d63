package ftp

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of one reply. FEAT answers with a few dozen lines, STAT with a whole listing. For a longer listing
// clients have LIST.
const (
	DefaultReplyLines = 4096
	DefaultReplyBytes = 512 << 10
)

// ReplyLine is the first or the last line of a reply.
type ReplyLine struct {
	Code int    // 100 to 999; RFC 959 section 4.2 has 1yz to 5yz, RFC 2228 6yz
	Sep  byte   // '-' if more lines follow, ' ' if not, 0 if there is neither: then this is the only line
	Text []byte // everything after the separator, or after the code; a part of the line
}

// ParseReplyLine reads the first line of a reply, without its ending. RFC 959 wants a space or a hyphen after
// the code. Servers also send a code alone, which is a last line. A code followed by anything else is also a
// last line, as for most clients (Python's ftplib, lftp): a client must not find an address in it that the
// gateway has not read. Lines inside a multi-line reply are not parsed: see ReplyScanner.
func ParseReplyLine(line []byte) (ReplyLine, error) {
	if len(line) < 3 || !isDigit(line[0]) || !isDigit(line[1]) || !isDigit(line[2]) {
		return ReplyLine{}, fmt.Errorf("reply %.64q: want a code of three digits", line)
	}
	l := ReplyLine{Code: codeOf(line)}
	if l.Code < 100 {
		return ReplyLine{}, fmt.Errorf("reply %.64q: code is below 100", line)
	}
	switch {
	case len(line) == 3:
	case line[3] != ' ' && line[3] != '-':
		l.Text = line[3:]
	default:
		l.Sep, l.Text = line[3], line[4:]
	}
	return l, nil
}

// ReplyTooLongError reports a reply that does not end within the limits.
type ReplyTooLongError struct {
	Lines, Bytes int // the limits
}

func (e *ReplyTooLongError) Error() string {
	return fmt.Sprintf("reply is longer than %d lines or %d bytes", e.Lines, e.Bytes)
}

// ReplyScanner finds the ends of replies, line by line, and stores no lines: it is for a caller that forwards
// lines as they arrive. The zero value is ready, with the default limits.
type ReplyScanner struct {
	MaxLines, MaxBytes int // of one reply; bytes without the endings; 0: the default

	code         int // of the current multi-line reply; 0: none
	lines, bytes int
}

// Code returns the code of the current multi-line reply, or 0 between replies.
func (s *ReplyScanner) Code() int { return s.code }

// Scan reads the next line, without its ending, and reports whether it completes the reply. A reply that
// begins with `code-` ends with a line that begins with the same code and a space (RFC 959 section 4.2). The
// lines in between may be anything, even other codes.
//
// Some servers end such a reply with the code alone, others have such a line within it. If ahead is set, the
// stream has another line already, and the code alone is not the end.
//
// The error is a *ReplyTooLongError or one of ParseReplyLine. The scanner then expects the first line of a
// reply, but the caller can no longer know which line that is.
func (s *ReplyScanner) Scan(line []byte, ahead bool) (done bool, err error) {
	if s.code == 0 {
		l, err := ParseReplyLine(line)
		if err != nil {
			return false, err
		}
		s.code, s.lines, s.bytes = l.Code, 0, 0
		done = l.Sep != '-'
	} else {
		done = endsReply(line, s.code) || !ahead && len(line) == 3 && beginsWith(line, s.code)
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

// endsReply reports whether line begins with code and a space.
func endsReply(line []byte, code int) bool {
	return len(line) > 3 && line[3] == ' ' && beginsWith(line, code)
}

// beginsWith reports whether a line of at least three bytes begins with code.
func beginsWith(line []byte, code int) bool {
	return isDigit(line[0]) && isDigit(line[1]) && isDigit(line[2]) && codeOf(line) == code
}

// codeOf returns the number of three digits that a line begins with.
func codeOf(line []byte) int {
	return int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

// Reply is a complete reply.
type Reply struct {
	Code  int
	Lines []string // at least one; the first and the last without code and separator, the others unchanged
}

// ReadReply reads a complete reply. The error wraps one of LineReader.ReadLine or ReplyScanner.Scan, or
// io.ErrUnexpectedEOF if the stream ends inside the reply.
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
		done, err := s.Scan(line, r.Ready())
		if err != nil {
			return Reply{}, fmt.Errorf("read reply: %w", err)
		}
		if len(reply.Lines) == 0 || done {
			// This cannot fail: Scan has found a code at the beginning of the line.
			l, _ := ParseReplyLine(line)
			reply.Code, line = l.Code, l.Text
		}
		reply.Lines = append(reply.Lines, string(line))
		if done {
			return reply, nil
		}
	}
}

// Text returns the text of the reply without codes, with LF between its lines.
func (r Reply) Text() string { return strings.Join(r.Lines, "\n") }

// Last returns the text of the last line, which is the only one that matters in a 227 or a 229.
func (r Reply) Last() string {
	if len(r.Lines) == 0 {
		return ""
	}
	return r.Lines[len(r.Lines)-1]
}

// AppendTo appends the reply as it is sent. It inserts a space before a line in the middle that would end the
// reply. It is an error if the code does not have three digits. CR, LF and NUL are errors too, because a
// foreign text could insert a reply of its own with them.
func (r Reply) AppendTo(dst []byte) ([]byte, error) {
	if r.Code < 100 || r.Code > 999 {
		return dst, fmt.Errorf("write reply: code %d is not between 100 and 999", r.Code)
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
