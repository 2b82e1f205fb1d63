package observe

import (
	"fmt"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// wantServer waits until status, metric and log say whether the server answers. changes is how many lines of
// that kind the log has.
func wantServer(s *harness.AdminGateway, answers bool, changes int) {
	s.T.Helper()
	line, status := "server does not answer", "  server       does not answer ("
	if answers {
		line, status = "server answers again", "  server       answers since "
	}
	s.AwaitLog(`msg="`+line+`" forward=files server=203.0.113.21:21`, changes)
	if got := s.Output("status"); !strings.Contains(got, status) ||
		strings.Contains(got, "PROBLEM") == answers {
		s.T.Errorf("got\n%s\nwant %q, and a problem: %t", got, status, !answers)
	}
	want := int64(0)
	if answers {
		want = 1
	}
	wantNumber(s.T, "ftpgate_server_up", scrape(s, "http://socket/metrics").sum("ftpgate_server_up",
		`forward="files"`), want)
}

// Status, metric and log follow a real server that is started, stopped and started again.
func TestServerHealth(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	s := harness.StartAdminGateway(t, l, fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4))
	if got := s.Output("status"); strings.Contains(got, "  server  ") {
		t.Errorf("while health is off: got\n%s\nwant nothing about the server", got)
	}
	harness.OverwriteFile(t, s.ConfigFile, strings.Replace(harness.ReadFile(t, s.ConfigFile),
		`health = "off"`, `health = "5s"`, 1))
	s.Output("reload")
	wantServer(s, false, 1)
	if got, want := s.Output("status"), "203.0.113.21:21: connect: connection refused"; !strings.Contains(got,
		want) {
		t.Errorf("got\n%s\nwant %q", got, want)
	}
	for n := range 2 {
		t.Run(fmt.Sprint("start ", n+1), func(t *testing.T) { // the server ends with it
			peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
			wantServer(s, true, n+1)
		})
		wantServer(s, false, n+2)
	}
	if n := strings.Count(s.Log(), "session"); n > 0 {
		t.Errorf("got %d lines about sessions; want checks to be none", n)
	}
}
