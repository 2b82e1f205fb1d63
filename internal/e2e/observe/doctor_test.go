package observe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
)

// doctorFindings is what both doctors answer with: the command, and the API of the daemon.
type doctorFindings struct {
	Findings []struct{ Code, Level, Forward string }
}

// list returns the findings for a comparison: their texts have numbers that change.
func (d doctorFindings) list() (all []string) {
	for _, f := range d.Findings {
		all = append(all, strings.TrimSpace(f.Level+" "+f.Code+" "+f.Forward))
	}
	return all
}

// get asks for a path over the admin socket.
func get(t *testing.T, s *harness.AdminGateway, path string) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.Socket)
	}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("http://localhost" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: got %s, %v: %s", path, answer.Status, err, text)
	}
	return string(text)
}

// The running ftpgate finds on the host what the command finds, and examines it once a minute at most.
func TestDoctorInDaemon(t *testing.T) {
	t.Parallel()
	_, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4))
	harness.Shell(t, s.Host, "nft add table ip filter; nft '"+
		"add chain ip filter INPUT { type filter hook input priority 0; policy drop; }'")
	var ours, theirs doctorFindings
	first := get(t, s, "/v1/doctor")
	harness.DecodeJSON(t, first, &ours)
	out, errs, _ := harness.Run(t, s.Host, "doctor", "--no-try", "--all", "-o", "json", "-c", s.ConfigFile)
	if errs != "" {
		t.Fatal(errs)
	}
	harness.DecodeJSON(t, out, &theirs)
	if !slices.Equal(ours.list(), theirs.list()) {
		t.Errorf("got %q; want %q", ours.list(), theirs.list())
	}
	refused := func(f string) bool { return strings.HasSuffix(f, " input_refused files") }
	if !slices.ContainsFunc(ours.list(), refused) {
		t.Errorf("got %q; want that a chain refuses the clients", ours.list())
	}
	if again := get(t, s, "/v1/doctor"); again != first {
		t.Errorf("got %s; want the same findings as before: %s", again, first)
	}
}
