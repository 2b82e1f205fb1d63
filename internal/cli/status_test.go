package cli

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/ops/admin"
)

func aStatus() *answers {
	since := time.Date(2026, 3, 14, 9, 26, 53, 0, time.Local)
	return &answers{status: admin.Status{
		Version: "v1.5.0", Build: "linux/amd64, go1.26.0", PID: 4711, Since: time.Now().Add(-50 * time.Hour),
		File: "/etc/ftpgate/ftpgate.toml", Table: "inet ftpgate",
		Capabilities: []string{"the kernel carries data connections: nftables can be programmed, and it is " +
			"this process that has the table"},
		Forwards: []admin.Forward{
			{Name: "archive", Listen: "192.168.5.2:2121", Server: "ftp.example.com:21",
				Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.21")},
				Tracking:  "proxy", DataPath: "kernel", FTPS: "terminated", FTPSWhy: "tls.client is optional",
				Counts: &admin.Counts{Sessions: 1, Total: 240, Transfers: 1312, Failed: 2, Up: 52_428_800,
					Down: 734_003_200, Clients: 1, Refused: 3}},
			{Name: "plc", Listen: ":2122", Server: "203.0.113.7:21",
				Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.7")},
				Counts:    &admin.Counts{Total: 1, Transfers: 1},
				Tracking:  "kernel", DataPath: "kernel", Problem: "the kernel's module nf_nat_ftp is " +
					"missing: modprobe nf_nat_ftp"},
			{Name: "lathe", Listen: ":2123", Server: "203.0.113.8:21", Tracking: "none", DataPath: "kernel",
				Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.8")}},
		},
		Certificates: []admin.Certificate{{Forward: "archive", File: "/etc/ftpgate/cert.pem",
			Subject: "CN=gw", DaysLeft: 20, Warning: "renew it"},
			{Forward: "plc", File: "/etc/ftpgate/ca.pem", DaysLeft: 90}},
		Reload:    &admin.Reload{At: since, Error: "f.toml:3:1: no listen\nf.toml:9:1: no server"},
		Conntrack: &admin.Conntrack{Count: 26_214, Max: 262_144},
		Warnings:  []string{"the last reload has changed nothing"},
	}}
}

// The line about a server says whether it answers, and what to do if it does not.
func TestServerHealth(t *testing.T) {
	now := time.Date(2026, 3, 14, 9, 26, 53, 0, time.Local)
	h := admin.Health{Since: now.Add(-50 * time.Hour), Checked: now.Add(-12 * time.Second)}
	answers, silent := h, h
	answers.Answers = true
	silent.Why, silent.Remedy = "no connection", "see that it runs"
	for want, health := range map[string]*admin.Health{
		"  server       answers since 2026-03-12 07:26:53 (2d), asked 12s ago": &answers,
		"  server       does not answer (2d), asked 12s ago":                   &h,
		"  server       does not answer (2d), asked 12s ago: see that it runs": &silent,
		"": nil,
	} {
		var got string
		f := admin.Forward{Name: "archive", Health: health}
		for _, line := range forwardLines(terminal.Of(io.Discard), f, nil, now) {
			if strings.HasPrefix(line, "  server ") {
				got += line
			}
		}
		if got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	socket := answering(t, aStatus())
	var out strings.Builder
	if stderr, status := try(t.Context(), newStatus(), &out, "--socket", socket); status != 0 ||
		stderr != "" {
		t.Fatalf("got exit status %d, %s", status, stderr)
	}
	first, rest, _ := strings.Cut(out.String(), "\n")
	if !strings.HasPrefix(first, "ftpgate v1.5.0, process 4711, since 2") ||
		!strings.HasSuffix(first, " (2d)") {
		t.Errorf("got %q; want version, process and time", first)
	}
	const want = `WARNING        the last reload has changed nothing
build          linux/amd64, go1.26.0
file           /etc/ftpgate/ftpgate.toml
reload         the last one changed nothing, f.toml:3:1: no listen; f.toml:9:1: no server; at ` +
		`2026-03-14 09:26:53
table          inet ftpgate
data path      the kernel carries data connections: nftables can be programmed, and it is this process ` +
		`that has the table
conntrack      26214 of 262144 entries (9 %)

forward archive: 192.168.5.2:2121 leads to ftp.example.com:21 (203.0.113.21)
  tracking     proxy, data connections by kernel
  FTPS         terminated: tls.client is optional
  now          1 session from 1 client
  so far       240 sessions; 1312 transfers, 2 failed; 52 MB up, 734 MB down; 3 refused
  certificate  CN=gw in /etc/ftpgate/cert.pem, good for 20 days; renew it

forward plc: :2122 leads to 203.0.113.7:21
  PROBLEM      the kernel's module nf_nat_ftp is missing: modprobe nf_nat_ftp
  tracking     kernel, data connections by kernel
  now          0 sessions from 0 clients
  so far       1 session; 1 transfer, 0 failed; 0 B up, 0 B down; 0 refused
  certificate  /etc/ftpgate/ca.pem, good for 90 days

forward lathe: :2123 leads to 203.0.113.8:21
  tracking     none, data connections by kernel
  now          not known: ftpgate does not follow the sessions of tracking none
`
	if rest != want {
		t.Errorf("got\n%s\nwant\n%s", rest, want)
	}
	if got := onTerminal(t, 80, newStatus(), "--socket", socket); !strings.Contains(got,
		"nftables can be programmed,\n               and it is") {
		t.Errorf("got\n%s\nwant it wrapped", got)
	}
	out.Reset()
	if _, status := try(t.Context(), newStatus(), &out, "--socket", socket, "--json"); status != 0 ||
		!strings.Contains(out.String(), `"days_left": 20`) {
		t.Errorf("got exit status %d,\n%s\nwant JSON", status, &out)
	}
}
