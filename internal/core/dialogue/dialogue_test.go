package dialogue

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

var ends = map[string]Ends{
	"4": {
		Client:  netip.MustParseAddr("192.168.5.1"),
		Gateway: netip.MustParseAddr("192.168.5.2"),
		Outside: netip.MustParseAddr("203.0.113.1"),
		Server:  netip.MustParseAddr("203.0.113.21"),
	},
	"6": {
		Client:  netip.MustParseAddr("2001:db8:5::1"),
		Gateway: netip.MustParseAddr("2001:db8:5::2"),
		Outside: netip.MustParseAddr("2001:db8:113::1"),
		Server:  netip.MustParseAddr("2001:db8:113::21"),
	},
	"46": {
		Client:  netip.MustParseAddr("192.168.5.1"),
		Gateway: netip.MustParseAddr("192.168.5.2"),
		Outside: netip.MustParseAddr("2001:db8:113::1"),
		Server:  netip.MustParseAddr("2001:db8:113::21"),
	},
	"64": {
		Client:  netip.MustParseAddr("2001:db8:5::1"),
		Gateway: netip.MustParseAddr("2001:db8:5::2"),
		Outside: netip.MustParseAddr("203.0.113.1"),
		Server:  netip.MustParseAddr("203.0.113.21"),
	},
	"advertised": {
		Client:    netip.MustParseAddr("192.168.5.1"),
		Gateway:   netip.MustParseAddr("192.168.5.2"),
		Outside:   netip.MustParseAddr("203.0.113.1"),
		Server:    netip.MustParseAddr("203.0.113.21"),
		Announced: netip.MustParseAddr("198.51.100.7"),
	},
}

// fragments are what many scripts have: between the lines of a "do".
var fragments = map[string]string{
	"login": `S 220 hello
>C 220 hello
C USER demo
>S USER demo
S 331 and now
>C 331 and now
C PASS secret
>S PASS secret
S 230 welcome
>C 230 welcome`,
	"pasv": `C PASV
! close
>S PASV
S 227 ok (203,0,113,21,195,80)
! open 192.168.5.1 > 192.168.5.2:0 > 203.0.113.1 > 203.0.113.21:50000
+ 192.168.5.2:49999
! arm
>C 227 Entering Passive Mode (192,168,5,2,195,79)`,
	"goon": `C USER demo
>S USER demo
S 230 welcome
>C 230 welcome`,
	"auth": `C AUTH TLS
! prepare
>C 234 begin with TLS
= encrypt`,
	"protect": `C PBSZ 0
>C 200 PBSZ=0
C PROT P
! close
>C 200 PROT P`,
	"failed": `C PASS x
>S PASS x
S 530 no
>C 530 no
? login`,
	"unasked": strings.Repeat("S 200 ok\n? unasked_reply\n", maxUnasked/4),
}

// A script is a dialogue, line by line: what comes in, and behind it all that it leads to. In a file of
// testdata/dialogues it begins with "== NAME"; "ends" (4 if there is none) and "mode passive"
// set the session up, and "tls" what is done about encryption (tlsWords); "do" stands for a fragment.
// Lines are:
//
//	C, S    from the client, from the server; \x20 is a space that an editor would cut off
//	+       where a pinhole was opened; "failed": the last effect could not be done; "broken", "unsealed";
//	        "hello": the client begins with TLS
//	!       what is to be done, before the lines below it are sent
//	>C, >S  what client and server are sent
//	?       the kind of a refusal
//	=       what the control connections become
//	.       the end of the session
type script struct {
	name  string
	ends  string
	terms Terms
	tls   string // the words that terms.TLS was set up with
	lines []string
}

// scripts reads all of them.
func scripts(tb testing.TB) []script {
	tb.Helper()
	files, err := filepath.Glob("testdata/dialogues/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatal("no dialogues", err)
	}
	var all []script
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			kind, rest, _ := strings.Cut(line, " ")
			last := len(all) - 1
			switch kind {
			case "":
			case "==":
				all = append(all, script{name: rest, ends: "4", terms: Terms{LoginFailures: 5}})
			case "ends":
				all[last].ends = rest
			case "mode":
				all[last].terms.ServerMode = forward.ServerModePassive
			case "tls":
				all[last].tls = rest
				for w := range strings.FieldsSeq(rest) {
					tlsWords[w](&all[last].terms)
				}
			case "do":
				all[last].lines = append(all[last].lines, strings.Split(strings.TrimSpace(fragments[rest]), "\n")...)
			default:
				all[last].lines = append(all[last].lines, line)
			}
		}
	}
	return all
}

// tlsWords set up what is done about encryption.
var tlsWords = map[string]func(*Terms){
	"optional": func(t *Terms) { t.TLS.Client = forward.ClientTLSOptional },
	"required": func(t *Terms) { t.TLS.Client = forward.ClientTLSRequired },
	"implicit": func(t *Terms) { t.TLS.Client, t.TLS.Implicit = forward.ClientTLSRequired, true },
	"ccc":      func(t *Terms) { t.TLS.CCC = true },
	"server":   func(t *Terms) { t.TLS.Server = forward.ServerTLSRequired },
	"clear":    func(t *Terms) { t.TLS.ServerDataClear = true },
	"through":  func(t *Terms) { t.Passive = forward.PortRange{First: 50000, Last: 50100} },
}

func TestDialogue(t *testing.T) {
	for _, s := range scripts(t) {
		t.Run(s.name, func(t *testing.T) { play(t, s) })
	}
}

func play(t *testing.T, s script) {
	t.Helper()
	d := NewDialogue(ends[s.ends], s.terms)
	var got []string
	for _, want := range s.lines {
		kind, rest, _ := strings.Cut(want, " ")
		switch kind {
		case "C", "S", "+":
			if len(got) > 0 {
				t.Fatalf("before %q got %q; want nothing more", want, got)
			}
			got = show(input(t, d, kind, rest))
		default:
			if len(got) == 0 || got[0] != want {
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
func input(t *testing.T, d *Dialogue, kind, rest string) *Step {
	t.Helper()
	line, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case kind == "C":
		if !d.Accepts([]byte(line)) {
			t.Fatalf("%q is not accepted now", line)
		}
		return d.Step(Client, []byte(line))
	case kind == "S":
		return d.Step(Server, []byte(line))
	case rest == "failed":
		return d.Failed("", "")
	case rest == "broken":
		return d.Broken(426, "broken", "mend it")
	case rest == "unsealed":
		return d.Broken(522, "no TLS", "mend it")
	case rest == "hello":
		return d.Hello()
	}
	return d.Opened(netip.MustParseAddrPort(rest))
}

// show writes what a step leads to as a script has it.
func show(s *Step) []string {
	var out []string
	switch s.Action {
	case Open:
		out = append(out, fmt.Sprintf("! open %s%s", s.Pinhole, onLegs(s.Pinhole.Encrypted)))
	case Join:
		c, to := s.Bridge.Client, s.Bridge.Server
		out = append(out, fmt.Sprintf("! join %s > %s, %s > %s%s", c.As, c.To, to.As, to.To, onLegs(s.Bridge.Encrypted)))
	case Arm:
		out = append(out, "! arm")
	case Close:
		out = append(out, "! close")
	case Finish:
		out = append(out, "! finish")
	case Fail:
		out = append(out, "! fail")
	case Pass:
		out = append(out, fmt.Sprintf("! pass %s", s.Passage))
	case Prepare:
		out = append(out, "! prepare")
	}
	lines := func(to string, text []byte) {
		for line := range strings.SplitAfterSeq(string(text), "\n") {
			if line = strings.TrimSuffix(line, "\r\n"); line != "" {
				q := strconv.QuoteToASCII(line)
				q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
				if n := len(strings.TrimRight(q, " ")); n < len(q) {
					q = q[:n] + strings.Repeat(`\x20`, len(q)-n)
				}
				out = append(out, to+" "+q)
			}
		}
	}
	lines(">C", s.ToClient)
	lines(">S", s.ToServer)
	if s.Synch {
		out = append(out, "! synch")
	}
	if s.Refused != NotRefused {
		out = append(out, "? "+s.Refused.String())
	}
	if s.Then != GoOn {
		out = append(out, "= "+map[Then]string{Encrypt: "encrypt", Decrypt: "decrypt", Tunnel: "tunnel"}[s.Then])
	}
	if s.End {
		out = append(out, ".")
	}
	return out
}

// onLegs says on which legs of a data connection TLS is spoken.
func onLegs(e pinhole.Encrypted) (s string) {
	if e.Client {
		s += ", tls with the client"
	}
	if e.Server {
		s += ", tls with the server"
	}
	return s
}

// Commands are dealt with one at a time; in a transfer, what is urgent may go before.
func TestAccepts(t *testing.T) {
	d := NewDialogue(ends["4"], Terms{LoginFailures: 5})
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
	d.Opened(netip.MustParseAddrPort("192.168.5.2:50000"))
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
	for _, line := range []string{"ABOR", "NOOP"} {
		if d.Accepts([]byte(line)) {
			t.Errorf("%s upon ABOR: got it accepted", line)
		}
	}
}
