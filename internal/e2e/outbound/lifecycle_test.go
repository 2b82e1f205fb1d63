package outbound

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// oneOutbound and twoOutbounds are configuration files. A reload removes the second outbound.
const (
	oneOutbound = "health = \"off\"\n[[outbound]]\ninterface = \"lan0\"\nports = [2121]\n" +
		"redirect_port = 8022\n%[1]s\n"
	twoOutbounds = oneOutbound + "[[outbound]]\ninterface = \"lan0\"\n%[1]s\n"
)

// newRunTestbed is a testbed with ftpgate run and a configuration file. It returns the file's path.
func newRunTestbed(t *testing.T, text string) (*harness.Testbed, string) {
	t.Helper()
	l := labtest.New(t)
	harness.Shell(t, l.Client(), "%s", families["IPv4"].routes[0])
	s := &harness.Testbed{Lab: l, T: t, Address: harness.Server4,
		Listener: harness.Listen(t, l.Server(), harness.Server4)}
	file := harness.WriteFile(t, "ftpgate.toml", text)
	s.StartProgram("run", "-c", file)
	return s, file
}

// reload gives ftpgate another file.
func reload(s *harness.Testbed, file, text string) {
	s.T.Helper()
	harness.OverwriteFile(s.T, file, text)
	s.Program.Signal(syscall.SIGHUP)
	s.Program.AwaitLog("msg=reloaded", 1)
}

// An outbound that a reload removes lets its transfers finish, and ends its idle sessions with a 421. Its
// clients' connections are no longer redirected; another outbound's sessions continue.
func TestReloadDrains(t *testing.T) {
	t.Parallel()
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			data := fmt.Sprintf("data = %q", path)
			s, file := newRunTestbed(t, fmt.Sprintf(twoOutbounds, data))
			const address = "203.0.113.21:2121"
			other := &harness.Testbed{Lab: s.Lab, T: t, Program: s.Program, Address: address,
				Listener: harness.Listen(t, s.Server(), address)}
			idle, busy, stays := s.Login(), s.Login().Retrieve(netip.Addr{}), other.Login()
			busy.Carry(harness.RandomBytes(300_000))
			reload(s, file, fmt.Sprintf(oneOutbound, data))
			idle.Client.Expect("421")
			idle.Client.ExpectClose()
			busy.Complete()
			busy.Client.Expect("421") // that was its last transfer
			busy.Client.ExpectClose()
			stays.Retrieve(netip.Addr{}).Complete()
			stays.RetrieveActive().Complete()
			other.WantService()
			harness.Shell(t, s.Server(), "%s", families["IPv4"].routes[1])
			c, err := s.Client().Dial(t.Context(), "tcp", s.Address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			wantUntouched(s)
		})
	}
}

// wantUntouched expects a connection at the server that comes from the client itself.
func wantUntouched(s *harness.Testbed) {
	s.T.Helper()
	if got := harness.PeerAddr(harness.Accept(s.T, s.Listener)); got != lab.ClientAddr4 {
		s.T.Errorf("the server sees %s; want %s, untranslated", got, lab.ClientAddr4)
	}
}

// A session continues through a reload that changes which servers are allowed, and the next one is refused.
func TestReloadChangesServers(t *testing.T) {
	t.Parallel()
	s, file := newRunTestbed(t, fmt.Sprintf(twoOutbounds, ""))
	before := s.Login()
	reload(s, file, fmt.Sprintf(twoOutbounds, `deny_servers = ["203.0.113.21"]`))
	c := s.ConnectClient()
	if got := c.Expect("421"); !strings.HasSuffix(got, "it is denied") {
		t.Errorf("got %q; want that the server is denied", got)
	}
	before.Retrieve(netip.Addr{}).Complete()
	before.RetrieveActive().Complete()
}
