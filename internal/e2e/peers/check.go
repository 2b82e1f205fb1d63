package peers

import (
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// CheckClient runs a client against a server through a forward. It asserts the files, the mode and the
// addresses.
func CheckClient(t *testing.T, l *lab.Lab, c Client, s Server, m Mode, at harness.Forward) {
	t.Helper()
	o := RunClient(t, l.Client(), c, s, m, at.Listen)
	o.WantFiles(t, s)
	o.WantModes(t, s, at.Source)
	o.WantAnnounced(t, at.Listen.Addr())
}

// The mode that the gateway uses with the server, by the client's mode. ModesTowardsIPv6 and
// ModesTowardsIPv4 are for servers of the other version of IP (RFC 6384 sections 6 and 7); many IPv4
// servers know PASV and PORT only. ModesTowardsPassive is for a server that must not be asked to
// connect.
var (
	ModesTowardsIPv6    = map[Mode]Mode{PASV: EPSV, EPSV: EPSV, PORT: EPRT, EPRT: EPRT}
	ModesTowardsIPv4    = map[Mode]Mode{EPSV: PASV, EPRT: PORT}
	ModesTowardsPassive = map[Mode]Mode{PASV: PASV, EPSV: EPSV, PORT: PASV, EPRT: EPSV}
)

// CheckTranslated is CheckClient where the server is asked in another mode than the client has chosen.
func CheckTranslated(t *testing.T, l *lab.Lab, c Client, s Server, m, asked Mode, at harness.Forward) {
	t.Helper()
	o := RunClient(t, l.Client(), c, s, m, at.Listen)
	o.WantFiles(t, s)
	o.WantClientModes(t)
	o.WantAnnounced(t, at.Listen.Addr())
	o.mode = asked
	got := s.dataCommands(t)
	o.wantAllInMode(t, "the server got", got)
	for _, c := range got {
		if told, ok := c.Address(); ok && told != at.Source.String() {
			t.Errorf("the server got %s %s, which names %s; want %s", c.Mode, c.Argument, told, at.Source)
		}
	}
}
