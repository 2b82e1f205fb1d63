package scenario

import (
	"strings"
	"testing"
)

// TestTLSFails checks that each fault of a gateway fails its case, and that the table shows it.
func TestTLSFails(t *testing.T) {
	for _, tt := range []struct {
		fault fault
		row   string // beginning of the row in the table
		want  string
	}{
		{listsAUTH, "refused         FAILED", "want no AUTH in it"},
		{wrongRefusal, "refused         FAILED", "AUTH: the answer is 502; want 534"},
		{noRemedy, "refused         FAILED", "want a remedy in it"},
		{unknownCA, "terminated      FAILED", "signed by unknown authority"},
		{neverResumes, "terminated      TLS 1.3, not resumed in clear           -",
			"terminated: client's leg: TLS 1.3, with 2 encrypted data connections, 0 of them resumed"},
		{neverResumes, "originated      in clear           TLS 1.3, not resumed -",
			"originated: server's leg: TLS 1.3, with 2 encrypted data connections, 0 of them resumed"},
		{leaksPassword, "passed through  TLS 1.3, resumed   TLS 1.3, resumed   -",
			"passed through: client's leg: the wiretap read what should be encrypted"},
		{tapFails, "terminated      TLS 1.3, resumed   FAILED",
			"terminated: server's leg: the wiretap did not see the greeting"},
		{corruptsData, "terminated      TLS 1.3, resumed   in clear           FAILED",
			"terminated: PASV: download: SHA-256 is"},
	} {
		t.Run(string(tt.fault), func(t *testing.T) {
			bed := newFakeTestbed(t)
			bed.fault = tt.fault
			setup := fakeSetup
			setup.ca = bed.ca
			var out strings.Builder
			s := &scenario{out: &out, testbed: bed, setup: setup, prompt: "gateway# "}
			err := s.runWithTLS(testContext(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %s", err, tt.want)
			}
			if !strings.Contains(s.ftps, "\n"+tt.row) {
				t.Errorf("got\n%s\nwant %q in it", s.ftps, tt.row)
			}
		})
	}
}

// TestLegFault: what is to be encrypted, or in clear, and is not.
func TestLegCheck(t *testing.T) {
	clear := leg{sawGreeting: true, sawPassword: true, sawFile: true}
	good := leg{sawGreeting: true, version: "TLS 1.3", data: dataConnections, resumed: dataConnections}
	dataInClear := leg{sawGreeting: true, version: "TLS 1.3", sawFile: true}
	for _, tt := range []struct {
		leg       leg
		encrypted bool
		want      string
	}{
		{clear, false, ""},
		{good, true, ""},
		{clear, true, "-, with 0 encrypted data connections, 0 of them resumed; want TLS and 2"},
		{good, false, "TLS 1.3; want none"},
		{dataInClear, true, "TLS 1.3, with 0 encrypted data connections, 0 of them resumed; want TLS and 2"},
		{leg{sawGreeting: true, sawPassword: true}, false, "the wiretap did not read what is in clear"},
	} {
		got := ""
		if err := tt.leg.check(tt.encrypted); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s, encrypted %v: got %q; want %q", tt.leg, tt.encrypted, got, tt.want)
		}
	}
}
