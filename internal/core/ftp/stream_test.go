package ftp

import (
	"reflect"
	"testing"
)

func TestParseClientLine(t *testing.T) {
	for line, want := range map[string]ClientLine{
		"noop": {Text: []byte("noop"), Command: Command{Verb: "NOOP"}},
		"\xff\xf4\xffABOR": {
			Telnet: []byte("\xff\xf4\xff"), Text: []byte("ABOR"), Command: Command{Verb: "ABOR"},
		},
		"RETR a b": {Text: []byte("RETR a b"), Command: Command{Verb: "RETR", Arg: []byte("a b")}},
		"\xff\xf1": {Telnet: []byte("\xff\xf1"), Text: []byte{}},
		"227 ok":   {Text: []byte("227 ok"), IsReply: true},
		"226":      {Text: []byte("226"), IsReply: true},
		"PASSword": {Text: []byte("PASSword"), Command: Command{Verb: "PASS", Arg: []byte("word")},
			Glued: true},
		" pass1 2": {Text: []byte(" pass1 2"), Command: Command{Verb: "PASS", Arg: []byte("1 2")},
			Glued: true},
		"PASS ":         {Text: []byte("PASS "), Command: Command{Verb: "PASS", Arg: []byte{}}},
		"PAS s":         {Text: []byte("PAS s"), Command: Command{Verb: "PAS", Arg: []byte("s")}},
		"PASV":          {Text: []byte("PASV"), Command: Command{Verb: "PASV"}},
		"999 x":         {Text: []byte("999 x")},
		"CWD a\rDELE b": {Text: []byte("CWD a\rDELE b")},
	} {
		got := ParseClientLine([]byte(line))
		if len(got.Telnet) == 0 {
			got.Telnet = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v; want %+v", line, got, want)
		}
	}
}

func TestReplyScannerNext(t *testing.T) {
	s := ReplyScanner{MaxLines: 3}
	for _, tt := range []struct {
		line  string
		want  ServerLine
		ahead bool // another line is there
	}{
		{"220 hello", ServerLine{Code: 220, First: true, Last: true}, false},
		{"211-features", ServerLine{Code: 211, First: true}, true},
		{"227 (127,0,0,1,0,22)", ServerLine{Code: 211}, true},
		{"211 end", ServerLine{Code: 211, Last: true}, false},
		{"220-a", ServerLine{Code: 220, First: true}, true},
		{"220", ServerLine{Code: 220}, true}, // more comes: this is not the end
		{"220", ServerLine{Code: 220, Last: true}, false},
		{"PORT 127,0,0,1,0,22", ServerLine{}, false},
		{"", ServerLine{}, false},
		{"150-a", ServerLine{Code: 150, First: true}, true},
		{"b", ServerLine{Code: 150}, true},
		{"c", ServerLine{Code: 150}, true},
		{"d", ServerLine{Endless: true}, true}, // the scanner expects a first line again
		{"226 done", ServerLine{Code: 226, First: true, Last: true}, false},
		{"227(1,2,3,4,5,6)", ServerLine{Text: []byte("227 (1,2,3,4,5,6)"), Code: 227, First: true,
			Last: true}, false},
	} {
		tt.want.Ending = EndLF
		if tt.want.Text == nil {
			tt.want.Text = []byte(tt.line)
		}
		if got := s.Next([]byte(tt.line), EndLF, tt.ahead); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: got %+v; want %+v", tt.line, got, tt.want)
		}
	}
}
