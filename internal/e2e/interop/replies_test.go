package interop

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// asked are lines that servers answer in different ways. What stands before a bar is urgent data, a byte at a
// time.
var asked = []string{
	"ABOR", "|\xff\xf4\xff\xf2ABOR", "\xf4\xff|abor", "\xf2|ABOR", "|\xff\xf4ABOR",
	"|\xff\xf4\xff\xf2STAT", "|\xff\xf2\xff\xf4\xff\xf2ABOR", "\xff\xf4\xff\xf2|abor",
	"PASV arg", "EPSV 1", "EPSV 2", "EPSV 3", "EPSV x", "EPSV ALL", "PASV", "EPSV", "QUIT",
}

// TestSameReplies wants the reply of each server, word for word, to what the gateway could answer itself.
func TestSameReplies(t *testing.T) {
	t.Parallel()
	for name, run := range peers.Servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			at := harness.Forward4
			s := run(t, l.Server(), at.Server)
			asked := asked
			if name == "pure-ftpd" { // it does not answer a line that begins with Telnet
				asked = slices.DeleteFunc(slices.Clone(asked), func(line string) bool {
					return strings.Contains(line, "|")
				})
			}
			harness.StartForward(t, l, at)
			want := replies(t, l.Gateway(), at.Server, s, asked)
			got := replies(t, l.Client(), at.Listen, s, asked)
			for i, line := range asked {
				if got[i] != want[i] {
					t.Errorf("%q: got %q; want %q, as without a gateway", line, got[i], want[i])
				}
			}
		})
	}
}

// replies asks a server, and returns its replies without the addresses and ports in them.
func replies(t *testing.T, h *lab.Host, at netip.AddrPort, s peers.Server, asked []string) (
	all []string) {
	t.Helper()
	c, err := h.Dial(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(harness.Timeout)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(c)
	reply(t, lines)
	for _, line := range append([]string{"USER " + s.User, "PASS " + s.Password}, asked...) {
		urgent, line, found := strings.Cut(line, "|")
		if !found {
			urgent, line = "", urgent
		}
		for _, b := range []byte(urgent) {
			sendUrgent(t, c.(*net.TCPConn), b)
		}
		if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
			t.Fatal(err)
		}
		all = append(all, reply(t, lines))
	}
	return all[2:]
}

// reply reads a reply, and returns its last line.
func reply(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	for code := ""; ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if code == "" && len(line) > 3 && line[3] == '-' {
			code = line[:3]
		} else if code == "" || strings.HasPrefix(line, code+" ") {
			return regexp.MustCompile(`\(.*\d.*\)`).ReplaceAllString(line, "()")
		}
	}
}

func sendUrgent(t *testing.T, c *net.TCPConn, b byte) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		sent = syscall.Sendmsg(int(fd), []byte{b}, nil, nil, syscall.MSG_OOB)
	})
	if err = errors.Join(err, sent); err != nil {
		t.Fatal(err)
	}
}
