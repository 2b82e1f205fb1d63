package tracker

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func TestDialogue(t *testing.T) {
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) { play(t, s) })
	}
}

func play(t *testing.T, s script) {
	t.Helper()
	d := NewDialogue(s.ends)
	var got []string
	for want := range strings.SplitSeq(strings.TrimSpace(s.text), "\n") {
		kind, rest, _ := strings.Cut(want, " ")
		switch kind {
		case "":
		case "C", "S", "+":
			if len(got) > 0 {
				t.Fatalf("before %q got %q; want nothing more", want, got)
			}
			got = show(input(t, d, kind, rest))
		default:
			if len(got) == 0 {
				t.Fatalf("got nothing more; want %q", want)
			}
			if got[0] != want && !(kind == "?" && strings.HasPrefix(got[0], want)) {
				t.Fatalf("got %q; want %q", got, want)
			}
			got = got[1:]
		}
	}
	if len(got) > 0 {
		t.Fatalf("at the end got %q; want nothing more", got)
	}
}

// input feeds one line of a script.
func input(t *testing.T, d *Dialogue, kind, rest string) Step {
	t.Helper()
	line, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatal(err)
	}
	switch kind {
	case "C":
		if !d.Accepts([]byte(line)) {
			t.Fatalf("%q is not accepted now", line)
		}
		return d.Step(Client, []byte(line))
	case "S":
		return d.Step(Server, []byte(line))
	}
	if rest == "error" {
		return d.Opened(netip.AddrPort{}, errors.New("no ports"))
	}
	return d.Opened(netip.MustParseAddrPort(rest), nil)
}

// show writes what a step leads to as a script has it.
func show(s Step) []string {
	var out []string
	lines := func(to string, text []byte) {
		for line := range strings.SplitAfterSeq(string(text), "\n") {
			if line = strings.TrimSuffix(line, "\r\n"); line != "" {
				q := strconv.QuoteToASCII(line)
				out = append(out, to+" "+strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`))
			}
		}
	}
	lines(">C", s.ToClient)
	lines(">S", s.ToServer)
	switch s.Action {
	case Open:
		out = append(out, fmt.Sprintf("! open %s", s.Pinhole))
	case Arm:
		out = append(out, "! arm")
	case Close:
		out = append(out, "! close")
	case Complete:
		out = append(out, "! complete")
	}
	if s.Synch {
		out = append(out, "! synch")
	}
	if s.Refused != "" {
		out = append(out, "? "+s.Refused)
	}
	if s.End {
		out = append(out, ".")
	}
	return out
}

// Commands are dealt with one at a time; in a transfer, what is urgent may go before.
func TestAccepts(t *testing.T) {
	d := NewDialogue(ends4)
	steps := func(side Side, lines ...string) {
		for _, l := range lines {
			d.Step(side, []byte(l))
		}
	}
	if d.Accepts([]byte("USER x")) {
		t.Error("a command before the greeting: got it accepted")
	}
	steps(Server, "220 hello")
	steps(Client, "USER x")
	if d.Accepts([]byte("PASS x")) {
		t.Error("a pipelined command: got it accepted")
	}
	steps(Server, "230 welcome")
	steps(Client, "EPSV")
	steps(Server, "229 (|||50000|)")
	d.Opened(netip.MustParseAddrPort("192.168.5.2:50000"), nil)
	steps(Client, "STOR x")
	for line, want := range map[string]bool{"ABOR": true, "\xff\xf4\xff\xf2ABOR": true, "stat": true, "QUIT": true, "NOOP": false, "PASV": false} {
		if got := d.Accepts([]byte(line)); got != want {
			t.Errorf("%q in a transfer: got %t; want %t", line, got, want)
		}
	}
	if !d.Busy() {
		t.Error("in a transfer: got not busy")
	}
	steps(Client, "ABOR")
	if d.Accepts([]byte("ABOR")) {
		t.Error("ABOR upon ABOR: got it accepted")
	}
}

// FuzzDialogue has both sides hostile at once: no panic, no pinhole but between the session's own ends, and
// every command that the server is sent is one whole line.
func FuzzDialogue(f *testing.F) {
	for _, s := range scripts {
		f.Add(s.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := NewDialogue(ends4)
		opened := false
		for line := range strings.SplitSeq(text, "\n") {
			kind, rest, _ := strings.Cut(line, " ")
			var s Step
			switch {
			case opened:
				s = d.Opened(netip.MustParseAddrPort("192.168.5.2:49999"), nil)
			case strings.ContainsAny(rest, "\x00"):
				continue // the line reader refuses it
			case kind == "C" && d.Accepts([]byte(rest)):
				s = d.Step(Client, []byte(rest))
			case kind == "S":
				s = d.Step(Server, []byte(rest))
			}
			opened = s.Action == Open
			if n := strings.Count(string(s.ToServer), "\n"); n > 1 {
				t.Fatalf("%q leads to %d lines for the server: %q", line, n, s.ToServer)
			}
			if opened {
				checkPinhole(t, s)
			}
			if s.End {
				return
			}
		}
	})
}

func checkPinhole(t *testing.T, s Step) {
	t.Helper()
	p := s.Pinhole
	passive := p.From == ends4.Client && p.At.Addr() == ends4.Gateway && p.To.Addr() == ends4.Server && p.As == ends4.Outside
	active := p.From == ends4.Server && p.At.Addr() == ends4.Outside && p.To.Addr() == ends4.Client && p.As == ends4.Gateway
	if !passive && !active || p.To.Port() < lowestPort {
		t.Fatalf("got pinhole %s", p)
	}
}
