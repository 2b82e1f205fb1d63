package ftp

import (
	"bytes"
	"strings"
	"testing"
)

var goodCommands = []struct {
	line, verb string
	arg        []byte
}{
	{"NOOP", "NOOP", nil},
	{"noop", "NOOP", nil},
	{"PwD", "PWD", nil},
	{"NOOP ", "NOOP", []byte{}}, // a space and an empty argument: the space is passed on
	{"CWD a b", "CWD", []byte("a b")},
	{"CWD  a ", "CWD", []byte(" a ")}, // RFC 3659 section 2.2: all spaces belong to the path
	{"RETR \xe4\xff\xff\xf6", "RETR", []byte("\xe4\xff\xff\xf6")},
	{"RETR a\tb", "RETR", []byte("a\tb")},
	{"xsha256 f", "XSHA256", []byte("f")}, // verbs with digits and long ones: FEAT lists them
	{"MD5 f", "MD5", []byte("f")},
	{"X", "X", nil},
	{"abcdefghijklmnopqrst-_.z9 x", "ABCDEFGHIJKLMNOPQRST-_.Z9", []byte("x")},
}

var badCommands = []struct{ line, want string }{
	{"", `command: empty line`},
	{" NOOP", `command: " " after "": want a verb and then a space`},
	{"PORT,1", `command: "," after "PORT": want a verb and then a space`},
	{"abcdefghijklmnopqrstuvwxyz/", `command: "/" after "abcdefghijklmnop": want a verb and then a space`},
	{"PASS\thunter2", `command: "\t" after "PASS": want a verb and then a space`},
	{"227 Entering", `command: "2" after "": want a verb and then a space`}, // a reply from the wrong side
	{"-NOOP", `command: "-" after "": want a verb and then a space`},
	{"PÄSV", `command: "\xc3" after "P": want a verb and then a space`},
	{"\xff\xf4\xffABOR", `command: "\xff" after "": want a verb and then a space`}, // see cutTelnet
	// Next to the letters in ASCII.
	{"[@`{ x", `command: "[" after "": want a verb and then a space`},
	{"CWD a\rDELE b", `command: CWD: CR, LF or NUL in the argument`},
	{"PASS a\nDELE b", `command: PASS: CR, LF or NUL in the argument`},
	{"CWD a\x00b", `command: CWD: CR, LF or NUL in the argument`},
	{"NOOP\r", `command: "\r" after "NOOP": want a verb and then a space`},
}

func TestParseCommand(t *testing.T) {
	for _, tt := range goodCommands {
		got, err := ParseCommand([]byte(tt.line))
		if err != nil || got.Verb != tt.verb || !bytes.Equal(got.Arg, tt.arg) ||
			(got.Arg == nil) != (tt.arg == nil) {
			t.Errorf("%q: got %q %q, %v; want %q %q", tt.line, got.Verb, got.Arg, err, tt.verb, tt.arg)
		}
	}
	for _, tt := range badCommands {
		if got, err := ParseCommand([]byte(tt.line)); err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v, %v; want %s", tt.line, got, err, tt.want)
		}
	}
}

func TestCommandString(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"pasv", "PASV"},
		{"CWD a b", "CWD a b"},
		{"PASS hunter2", "PASS ****"},
		{"PASS ", "PASS ****"},
		{"ACCT 7", "ACCT ****"},
		{"ADAT dG9rZW4=", "ADAT ****"},
		{"AUTH TLS", "AUTH TLS"},
		{"CWD \x1b[2J", `CWD "\x1b[2J"`},
		{"CWD \xe4", `CWD "\xe4"`},
	} {
		c, err := ParseCommand([]byte(tt.line))
		if err != nil {
			t.Fatalf("%q: %v", tt.line, err)
		}
		if got := c.String(); got != tt.want {
			t.Errorf("%q: got %s; want %s", tt.line, got, tt.want)
		}
	}
}

func TestCutTelnet(t *testing.T) {
	for _, tt := range []struct{ why, line, telnet, command string }{
		{"none", "ABOR", "", "ABOR"},
		{"IP and Synch", "\xff\xf4\xff\xf2ABOR", "\xff\xf4\xff\xf2", "ABOR"},
		{"IP and a Synch whose last byte went as urgent data", "\xff\xf4\xffABOR", "\xff\xf4\xff", "ABOR"},
		{"WILL and an option", "\xff\xfb\x01USER a", "\xff\xfb\x01", "USER a"},
		{"an option is cut off", "\xff\xfd", "\xff\xfd", ""},
		{"an IAC alone", "\xff", "\xff", ""},
		{"IP and its IAC in the wrong order", "\xf4\xffabor", "\xf4\xff", "abor"},
		{"a data mark whose IAC is lost", "\xff\xf4\xf2ABOR", "\xff\xf4\xf2", "ABOR"},
		{"a word in UTF-8 is no Telnet", "\xc3\xb6x", "", "\xc3\xb6x"},
		{"IP and Synch in UTF-8", "\xc3\xb2\xc3\xbfABOR", "\xc3\xb2\xc3\xbf", "ABOR"},
		{"the same, before a command that is not urgent", "\xc3\xb2NOOP", "", "\xc3\xb2NOOP"},
		{"a doubled IAC before STAT", "\xff\xffstat a", "\xff\xff", "stat a"},
		{"a doubled IAC is data", "\xff\xffx", "", "\xff\xffx"},
		{"not inside a path", "CWD \xff\xf4", "", "CWD \xff\xf4"},
	} {
		telnet, command := cutTelnet([]byte(tt.line))
		if string(telnet) != tt.telnet || string(command) != tt.command {
			t.Errorf("%s: %q: got %q, %q; want %q, %q",
				tt.why, tt.line, telnet, command, tt.telnet, tt.command)
		}
	}
}

// A parsed command is written as it was read, except for the case of its verb, and as one line.
func FuzzCommand(f *testing.F) {
	for _, tt := range goodCommands {
		f.Add([]byte(tt.line))
	}
	for _, tt := range badCommands {
		f.Add([]byte(tt.line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		telnet, command := cutTelnet(line)
		if got := append(bytes.Clone(telnet), command...); !bytes.Equal(got, line) {
			t.Fatalf("cutTelnet %q: got %q", line, got)
		}
		c, err := ParseCommand(line)
		if err != nil {
			return
		}
		got := c.AppendTo(nil)
		n := len(c.Verb)
		if want := append(append(bytes.ToUpper(line[:n]), line[n:]...), "\r\n"...); !bytes.Equal(got, want) {
			t.Errorf("%q: got %q; want %q", line, got, want)
		}
		if bytes.Count(got, []byte("\n")) != 1 {
			t.Errorf("%q: got %q; want one line", line, got)
		}
		if HidesArgument(c.Verb) && len(c.Arg) > 4 && strings.Contains(c.String(), string(c.Arg)) {
			t.Errorf("%q: String shows the argument: %s", line, c)
		}
	})
}
