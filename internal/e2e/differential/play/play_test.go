package play

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/e2e/differential/script"
)

// here makes sockets in this process's own namespace.
type here struct{}

func (here) Do(f func() error) error { return f() }

// session is two downloads, one of them reset, and a goodbye.
const session = `
do greet
do pasv
C dial
C send RETR a
S expect RETR
S accept
S send 150 go
C expect 150
S data write 100000
S data close
S send 226 done
C data end
C data close
C expect 226

do pasv
C dial
C send STOR b
S expect STOR
S accept
S send 150 go
C expect 150
C data write 10
S data read 10
S signal read
C wait read
C data reset
S data end
S send 426 broken
C expect 426

C send QUIT
C half
S expect QUIT
S end
S send 221 bye
S close
C expect 221
C end
`

// lies are proxies that do not do as they should, and what gives them away. An honest one is among them.
var lies = map[string]struct {
	lie  lie
	want string
}{
	"honest": {},
	"drops a 226": {
		lie{reply: func(line []byte) []byte {
			if bytes.HasPrefix(line, []byte("226")) {
				return nil
			}
			return line
		}}, "timed out"},
	"adds a reply": {
		lie{reply: func(line []byte) []byte {
			if bytes.HasPrefix(line, []byte("221")) {
				return append(line, "200 more\r\n"...)
			}
			return line
		}}, `got "200 more\r\n"; directly control ends with FIN`},
	"changes a reply": {
		lie{reply: func(line []byte) []byte {
			return bytes.Replace(line, []byte("done"), []byte("Done"),
				1)
		}},
		`client, event 6: got "226 Done\r\n"; directly got "226 done\r\n"`},
	"changes a command": {
		lie{command: bytes.ToLower}, `server, event 1: got "pasv\r\n"; directly got "PASV\r\n"`},
	"drops a 150": {
		lie{reply: func(line []byte) []byte {
			if bytes.HasPrefix(line, []byte("150")) {
				return nil
			}
			return line
		}}, `client, event 4: got "226 done\r\n"; directly got "150 go\r\n"`},
	"swallows the end of control": {
		lie{end: func(*net.TCPConn) {}}, "timed out"},
	"resets control": {
		lie{end: resetConn}, `client, event 11: expect 221: reset; directly got "221 bye\r\n"`},
	"changes a byte": {
		lie{data: func(data []byte) []byte {
			if len(data) > 0 {
				data[0]++
			}
			return data
		}}, "other bytes than were sent, from byte 0 on"},
	"adds a byte": {
		lie{dataEnd: func(to *net.TCPConn, _ error) { to.Write([]byte{0}); to.CloseWrite() }},
		"other bytes than were sent, from byte 100000 on"},
	"drops data": {
		lie{data: func(data []byte) []byte { return data[min(1, len(data)):] }},
		"other bytes than were sent"},
	"makes a FIN a reset": {
		lie{dataEnd: func(to *net.TCPConn, _ error) { resetConn(to) }},
		"ends with reset; directly data 1 ends with FIN"},
	"makes a reset a FIN": {
		lie{dataEnd: func(to *net.TCPConn, _ error) { to.CloseWrite() }},
		"server, event 7: data 2 ends with FIN after 10 bytes; directly data 2 ends with reset"},
	"does not end data": {
		lie{dataEnd: func(*net.TCPConn, error) {}}, "timed out"},
	"comes from elsewhere": {
		lie{dial: dialFrom("127.0.0.9")}, "data 1 comes from 127.0.0.9, a port; directly data 1 comes " +
			"from peer"},
}

// TestLies finds every lie of a proxy, and none in an honest one.
func TestLies(t *testing.T) {
	p, err := script.Parse("session", session)
	if err != nil {
		t.Fatal(err)
	}
	direct := playHere(t, p, nil)
	if direct.Failure != "" {
		t.Fatalf("directly: got failure %q; want none", direct.Failure)
	}
	for name, tt := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := playHere(t, p, &tt.lie)
			var found []string
			for _, d := range Compare(direct, got) {
				found = append(found, d.String())
			}
			text := strings.Join(found, "\n")
			if (text == "") != (tt.want == "") || !strings.Contains(text, tt.want) {
				t.Errorf("got differences %q, failure %q; want %q in them", text, got.Failure, tt.want)
			}
		})
	}
}

// playHere plays a pair on loopback, through a proxy if there is one.
func playHere(t *testing.T, p script.Pair, l *lie) Record {
	t.Helper()
	free, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	at := addrPort(free.Addr())
	free.Close()
	r := Route{Client: here{}, Server: here{}, Dial: at, Listen: at}
	if l != nil {
		r.Dial = startLiar(t, at, *l)
	}
	record, err := Play(t.Context(), p, r, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestCompare(t *testing.T) {
	direct := Record{Client: []string{"a", "b"}, Server: []string{"x", "y"}}
	for _, tt := range []struct {
		name string
		got  Record
		want string
	}{
		{"the same", direct, ""},
		{"another event", Record{Client: []string{"a", "c"}, Server: direct.Server},
			"client, event 2: c; directly b"},
		{"one more", Record{Client: []string{"a", "b", "c"}, Server: direct.Server},
			"client, event 3: c; directly nothing more"},
		{"one less", Record{Client: direct.Client, Server: []string{"x"}},
			"server, event 2: nothing more; directly y"},
		{"both", Record{Client: []string{"c"}, Server: []string{"z"}},
			"client, event 1: c; directly a|server, event 1: z; directly x"},
		{"broken off by the client", Record{Client: []string{"a", "no"}, Server: []string{"x"},
			Failure: "client: no"}, "client, event 2: no; directly b"},
		{"broken off by the server", Record{Client: []string{"a"}, Server: []string{"no"},
			Failure: "server: no"}, "server, event 1: no; directly x"},
		{"broken off without a difference before it", Record{Server: nil,
			Failure: "client: control connection"},
			"client, event 1: nothing more; directly a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var all []string
			for _, d := range Compare(direct, tt.got) {
				all = append(all, d.String())
			}
			if got := strings.Join(all, "|"); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}
