package demo

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestColored(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"Act 2: with kernel tracking", bold + "Act 2: with kernel tracking" + plain},
		{"-- PASV: the client connects --", bold + "-- PASV: the client connects --" + plain},
		{"gateway# ftpgate forward", bold + "gateway# ftpgate forward" + plain},
		{"---> PASV", bold + "---> PASV" + plain},
		{"<--- 227 Entering Passive Mode", "<--- 227 Entering Passive Mode"},
		{"<--- 534 not here", red + "<--- 534 not here" + plain},
		{"<---  550 is a feature", "<---  550 is a feature"},
		{"     ~~~ the server sent", yellow + "     ~~~ the server sent" + plain},
		{"proxy     PASV                     ok               FAILED           -",
			"proxy     PASV                     ok               " + red + "FAILED" + plain + "           -"},
		{"a 227 with no address        says 0.0.0.0, no data              works",
			"a 227 with no address        " + red + "says 0.0.0.0, no data" + plain + "              " +
				green + "works" + plain},
		{"---- Connecting data socket", faint + "---- Connecting data socket" + plain},
		{"---- Data connection failed: network is unreachable", red +
			"---- Data connection failed: network is unreachable" + plain},
		{"---- 4194304 bytes; SHA-256 4e32e1bf... is right", green +
			"---- 4194304 bytes; SHA-256 4e32e1bf... is right" + plain},
		{"", ""},
	} {
		var out strings.Builder
		w := Colored(&out)
		for _, half := range []string{tt.line[:len(tt.line)/2], tt.line[len(tt.line)/2:] + "\n"} {
			if n, err := io.WriteString(w, half); n != len(half) || err != nil {
				t.Fatalf("got %d, %v; want %d", n, err, len(half))
			}
		}
		if want := tt.want + "\n"; out.String() != want {
			t.Errorf("got %q; want %q", out.String(), want)
		}
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestColoredFails(t *testing.T) {
	full := errors.New("no space")
	if _, err := fmt.Fprintln(Colored(brokenWriter{full}), "Act 1"); !errors.Is(err, full) {
		t.Errorf("got %v; want %v", err, full)
	}
}
