package peers

import (
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// CheckClient runs a client against a server through a forward. It asserts the files, the mode and the
// addresses.
func CheckClient(t *testing.T, l *lab.Lab, c Client, s Server, m Mode, f harness.Forward) {
	t.Helper()
	checkClient(t, l, c, s, m, m, f)
}

// checkClient is CheckClient where the server is asked in the mode towards.
func checkClient(t *testing.T, l *lab.Lab, c Client, s Server, m, towards Mode, f harness.Forward) {
	t.Helper()
	o := RunClient(t, l.Client(), c, s, m, f.Listen)
	o.WantFiles(t, s)
	o.WantClientModes(t)
	o.WantAnnounced(t, f.Listen.Addr())
	if s.log != "" || towards != m { // a server that is asked in another way must have a log
		o.mode = towards
		o.wantServerModes(t, s, f.Source)
	}
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

// CheckClients runs clients one after the other in all their modes, each as a subtest.
func CheckClients(t *testing.T, l *lab.Lab, s Server, f harness.Forward, clients ...Client) {
	t.Helper()
	for _, c := range clients {
		for _, m := range c.Modes(f) {
			t.Run(c.Name+"/"+string(m), func(t *testing.T) { CheckClient(t, l, c, s, m, f) })
		}
	}
}

// CheckTranslated is CheckClients where the server is asked in the modes that modes has for the client's.
func CheckTranslated(t *testing.T, l *lab.Lab, s Server, f harness.Forward, modes map[Mode]Mode,
	clients ...Client) {
	t.Helper()
	for _, c := range clients {
		for _, m := range c.Modes(f) {
			t.Run(c.Name+"/"+string(m), func(t *testing.T) { checkClient(t, l, c, s, m, modes[m], f) })
		}
	}
}
