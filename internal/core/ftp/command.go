package ftp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Command is one line from a client.
type Command struct {
	Verb string // a token in upper case
	Arg  []byte // everything after the first space, unchanged; nil if there is no space
}

// ParseCommand reads a line without its ending. RFC 959 section 5.3 has verbs of three or four letters, and
// extensions have others ("XMD5", "XSHA256"). RFC 5797 wants unknown commands to reach the server, so a verb
// may be any token: a letter followed by letters, digits, '-', '_' and '.'.
//
// Exactly one space separates the verb from its argument. More
// spaces, and spaces at the end, belong to the argument: they may be part of a path (RFC 3659 section 2.2).
// Arg is a part of line and changes with it.
//
// It refuses a CR in the line: a server that ends its lines there would read two commands. Errors quote at
// most the beginning of the verb and the byte after it, never an argument, which may be a password.
func ParseCommand(line []byte) (Command, error) {
	n := 0
	for n < len(line) && (isLetter(line[n]) || n > 0 && isVerbByte(line[n])) {
		n++
	}
	switch {
	case len(line) == 0:
		return Command{}, errors.New("command: empty line")
	case n == 0, n < len(line) && line[n] != ' ':
		return Command{}, fmt.Errorf("command: %q after %.16q: want a verb and then a space",
			line[n:n+1], line[:n])
	}
	var short [16]byte // longer verbs are rare
	verb := append(short[:0], line[:n]...)
	for i, c := range verb {
		if isLetter(c) {
			verb[i] = c &^ 0x20 // upper case
		}
	}
	c := Command{Verb: string(verb)}
	if n < len(line) {
		c.Arg = line[n+1:]
	}
	if bytes.ContainsAny(c.Arg, "\r\n\x00") {
		return Command{}, fmt.Errorf("command: %s: CR, LF or NUL in the argument", c.Verb)
	}
	return c, nil
}

// AppendTo appends the command as it is sent, with CR LF.
func (c Command) AppendTo(dst []byte) []byte {
	dst = append(dst, c.Verb...)
	if c.Arg != nil {
		dst = append(dst, ' ')
		dst = append(dst, c.Arg...)
	}
	return append(dst, '\r', '\n')
}

// String returns the command for a log. It escapes control characters and masks secrets.
func (c Command) String() string {
	if c.Arg == nil {
		return c.Verb
	}
	if HidesArgument(c.Verb) {
		return c.Verb + " ****"
	}
	q := strconv.QuoteToASCII(string(c.Arg))
	if q[1:len(q)-1] != string(c.Arg) {
		return c.Verb + " " + q
	}
	return c.Verb + " " + string(c.Arg)
}

// HidesArgument reports whether a command's argument may be a secret: a password, an account, data of an
// authentication or a protected command (RFC 959 section 4.1.1, RFC 2228 section 3). SITE changes passwords
// on some servers.
func HidesArgument(verb string) bool {
	switch verb {
	case "PASS", "ACCT", "ADAT", "MIC", "CONF", "ENC", "SITE":
		return true
	}
	return false
}

// IsUpload reports whether a command sends data to the server.
func IsUpload(verb string) bool { return verb == "STOR" || verb == "STOU" || verb == "APPE" }

// Telnet commands in FTP (RFC 854, RFC 959 section 4.1.3).
const (
	telnetSE   = 240 // the lowest command
	telnetWILL = 251 // WILL, WONT, DO and DONT have one byte for an option
	telnetIAC  = 255
)

// IsUrgent reports whether clients may send a command while the server is busy with a transfer, after
// Telnet's IP and Synch (RFC 959 section 4.1.3).
func IsUrgent(verb string) bool { return verb == "ABOR" || verb == "STAT" || verb == "QUIT" }

// cutTelnet splits a line into the Telnet commands at its beginning and the FTP command after them. Clients
// send IP and Synch before ABOR, STAT and QUIT (RFC 959 section 4.1.3), and options that must be refused (RFC
// 1123 section 4.1.2.12). Some of these bytes are urgent data, which clients send in another order, or which
// a receiver's kernel removes from the stream. So an IAC may appear alone, and a command without its IAC. A
// doubled IAC is data, and ends the Telnet commands. Some clients write IP and Synch in UTF-8: before ABOR,
// STAT and QUIT all non-ASCII bytes count as Telnet, because servers read only the end of such a line.
func cutTelnet(line []byte) (telnet, command []byte) {
	n := telnetLength(line)
	text := n
	for text < len(line) && line[text] >= utf8.RuneSelf {
		text++
	}
	verb, _, _ := bytes.Cut(line[text:], []byte(" "))
	if text > n && IsUrgent(string(bytes.ToUpper(verb))) {
		n = text
	}
	return line[:n], line[n:]
}

// telnetLength returns how many bytes at the beginning of a line are Telnet commands.
func telnetLength(line []byte) int {
	i := 0
	for i < len(line) && line[i] >= telnetSE {
		switch {
		case line[i] != telnetIAC, i+1 == len(line), line[i+1] < telnetSE:
			i++
		case line[i+1] == telnetIAC:
			return i
		case line[i+1] >= telnetWILL:
			i = min(i+3, len(line))
		default:
			i += 2
		}
	}
	return i
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isVerbByte reports whether c may follow the first letter of a verb.
func isVerbByte(c byte) bool { return isLetter(c) || isDigit(c) || c == '-' || c == '_' || c == '.' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
