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
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

var addresses = map[string]Addresses{
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
>C 227 ok (192,168,5,2,195,79)`,
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
	"greet": `+ greet
>C 220 This gateway connects to FTP servers: USER user@host`,
	"named": `+ greet
>C 220 This gateway connects to FTP servers: USER user@host
C USER demo@ftp.example.com
! dial ftp.example.com:21
+ dialled
S 220 hello
>S USER demo
S 331 and now
>C 331-hello
>C 331 and now
C PASS secret
>S PASS secret
S 230 welcome
>C 230 welcome`,
	"codeless": strings.Repeat("S x\n>C x\n", maxCodeless),
	"blanks":   strings.Repeat("C\n>S\n", maxOutstanding),
	"long":     "S 226-" + strings.Repeat("x", maxHeldBack) + "\n>C 226-" + strings.Repeat("x", maxHeldBack),
	"unasked":  strings.Repeat("S 200 ok\n? unasked_reply\n", maxUnexpected/4),
}

// A script is a dialogue, line by line: what comes in, and behind it all that it leads to. In a file of
// testdata/dialogues it begins with "== NAME"; "ends" (4 if there is none) and "mode passive"
// set the session up, and "tls" what is done about encryption (tlsWords); "named" has the client name the
// server, perhaps after a login to the gateway ("named fw secret"); "do" stands for a fragment.
// Lines are:
//
//	C, S    from the client, from the server; \x20 is a space that an editor would cut off
//	+       where a pinhole was opened; "failed": the last action failed; "broken", "unsealed";
//	        "hello": the client begins with TLS; "ended": it sends no further command; "dialled",
//	        "unreachable": what became of a dial
//	!       what is to be done, before the lines below it are sent
//	>C, >S  what client and server are sent
//	?       the kind of a refusal
//	=       what the control connections become
//	.       the end of the session
type script struct {
	name   string
	ends   string
	config Config
	tls    string // the words that config.TLS was set up with
	lines  []string
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
				all = append(all, script{name: rest, ends: "4", config: Config{LoginFailures: 5}})
			case "ends":
				all[last].ends = rest
			case "named":
				all[last].config.Named = true
				user, password, _ := strings.Cut(rest, " ")
				all[last].config.Account = Account{User: user, Password: password}
			case "mode":
				all[last].config.ServerMode = forward.ServerModePassive
			case "tls":
				all[last].tls = rest
				for w := range strings.FieldsSeq(rest) {
					tlsWords[w](&all[last].config)
				}
			case "do":
				all[last].lines = append(all[last].lines,
					strings.Split(strings.TrimSpace(fragments[rest]), "\n")...)
			default:
				all[last].lines = append(all[last].lines, line)
			}
		}
	}
	return all
}

// tlsWords set up what is done about encryption.
var tlsWords = map[string]func(*Config){
	"optional": func(t *Config) { t.TLS.Client = forward.ClientTLSOptional },
	"required": func(t *Config) { t.TLS.Client = forward.ClientTLSRequired },
	"implicit": func(t *Config) { t.TLS.Client, t.TLS.Implicit = forward.ClientTLSRequired, true },
	"ccc":      func(t *Config) { t.TLS.CCC = true },
	"server":   func(t *Config) { t.TLS.Server = forward.ServerTLSRequired },
	"clear":    func(t *Config) { t.TLS.ServerDataClear = true },
	"through":  func(t *Config) { t.Passive = forward.PortRange{First: 50000, Last: 50100} },
}

func TestDialogue(t *testing.T) {
	for _, s := range scripts(t) {
		t.Run(s.name, func(t *testing.T) { play(t, s) })
	}
}

func play(t *testing.T, s script) {
	t.Helper()
	p := newParsed(addresses[s.ends], s.config)
	var got []string
	for _, want := range s.lines {
		kind, rest, _ := strings.Cut(want, " ")
		switch kind {
		case "C", "S", "+":
			if len(got) > 0 {
				t.Fatalf("before %q got %q; want nothing more", want, got)
			}
			got = show(input(t, p, kind, rest))
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

// parsed is a Dialogue for tests that have lines as text.
type parsed struct {
	*Dialogue
	replies ftp.ReplyScanner
	ends    Addresses
}

func newParsed(addrs Addresses, config Config) *parsed {
	p := &parsed{ends: addrs}
	if config.Named {
		addrs.Outside, addrs.Server = netip.Addr{}, netip.Addr{}
	}
	p.Dialogue = New(addrs, config)
	return p
}

func (p *parsed) client(line string) Step { return p.Command(ftp.ParseClientLine([]byte(line))) }
func (p *parsed) server(line string) Step {
	return p.Reply(p.replies.Next([]byte(line), ftp.EndCRLF, false))
}
func (p *parsed) accepts(line string) bool {
	return p.Accepts(ftp.ParseClientLine([]byte(line)))
}

// input feeds one line of a script.
func input(t *testing.T, d *parsed, kind, rest string) Step {
	t.Helper()
	line, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case kind == "C":
		if !d.accepts(line) {
			t.Fatalf("%q is not accepted now", line)
		}
		return d.client(line)
	case kind == "S":
		return d.server(line)
	case rest == "greet":
		return d.Greet()
	case rest == "dialled":
		d.replies = ftp.ReplyScanner{}
		return d.Dialled(d.ends)
	case rest == "unreachable":
		return d.NotDialled(verdict.Refusal{Kind: verdict.RefusedUnreachable, Reason: "cannot reach it"})
	case rest == "failed":
		return d.Failed("", "")
	case rest == "broken":
		return d.Broken(pinhole.Failure{ReplyCode: 426, Reason: "broken", Remedy: "mend it"})
	case rest == "unsealed":
		return d.Broken(pinhole.Failure{ReplyCode: 522, Reason: "no TLS", Remedy: "mend it"})
	case rest == "ended":
		d.ClientEnded()
		return Step{}
	case rest == "hello":
		return d.ClientHello()
	}
	return d.Opened(netip.MustParseAddrPort(rest))
}

// actionWords are the actions that a script writes without arguments.
var actionWords = map[Action]string{Arm: "arm", Use: "use", Finish: "finish", Complete: "complete",
	Fail:    "fail",
	Decline: "decline", Close: "close", PrepareTLS: "prepare"}

// show writes a step in the form of a script.
func show(s Step) []string {
	var out []string
	switch s.Action {
	case Open:
		out = append(out, fmt.Sprintf("! open %s%s", s.Pinhole, onLegs(s.Pinhole.TLS)))
	case Bridge:
		c, to := s.Bridge.Client, s.Bridge.Server
		out = append(out, fmt.Sprintf("! bridge %s > %s, %s > %s%s", c.SourceIP, c.Target, to.SourceIP,
			to.Target, onLegs(s.Bridge.TLS)))
	case Dial:
		out = append(out, "! dial "+s.Server.String())
	case OpenPassthrough:
		out = append(out, fmt.Sprintf("! passthrough %s", s.Passthrough))
	default:
		if word := actionWords[s.Action]; word != "" {
			out = append(out, "! "+word)
		}
	}
	lines := func(to string, text []byte) {
		for line := range strings.SplitAfterSeq(string(text), "\n") {
			if line, ended := strings.CutSuffix(line, "\r\n"); ended {
				q := strconv.QuoteToASCII(line)
				q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
				if n := len(strings.TrimRight(q, " ")); n < len(q) {
					q = q[:n] + strings.Repeat(`\x20`, len(q)-n)
				}
				out = append(out, strings.TrimRight(to+" "+q, " "))
			} else if line != "" { // answers to Telnet options
				out = append(out, to+" "+strings.Trim(strconv.QuoteToASCII(line), `"`))
			}
		}
	}
	lines(">C", s.ToClient)
	lines(">S", s.ToServer)
	if s.Aborted {
		out = append(out, "! aborted")
	}
	if s.Urgent > 0 {
		out = append(out, fmt.Sprintf("! urgent %d", s.Urgent))
	}
	if s.Refusal.Kind != verdict.NotRefused {
		out = append(out, "? "+s.Refusal.Kind.String())
	}
	if s.Transition != None {
		names := map[Transition]string{Encrypt: "encrypt", Decrypt: "decrypt", Passthrough: "passthrough"}
		out = append(out, "= "+names[s.Transition])
	}
	if s.End {
		out = append(out, ".")
	}
	return out
}

// onLegs says on which legs of a data connection TLS is spoken.
func onLegs(e pinhole.TLSLegs) (s string) {
	if e.Client {
		s += ", tls with the client"
	}
	if e.Server {
		s += ", tls with the server"
	}
	return s
}
