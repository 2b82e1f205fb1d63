package scenario

import (
	"strings"
	"testing"
)

// TestFTPSGoesWrong: each fault of a gateway is found out, in the case that it spoils, and the table says so.
func TestTLSFails(t *testing.T) {
	for _, tt := range []struct {
		faulty fault
		row    string // of the table, as far as it tells
		want   string
	}{
		{listsAUTH, "refused         FAILED", "want no AUTH in it"},
		{wrongRefusal, "refused         FAILED", "AUTH: the answer is 502; want 534"},
		{noRemedy, "refused         FAILED", "the log names no remedy"},
		{unknownCA, "terminated      FAILED", "signed by unknown authority"},
		{neverResumes, "terminated      TLS 1.3, not resumed in clear           -", "terminated: client's leg: TLS 1.3, with 2 encrypted data connections, 0 of them resumed"},
		{neverResumes, "originated      in clear           TLS 1.3, not resumed -", "originated: server's leg: TLS 1.3, with 2 encrypted data connections, 0 of them resumed"},
		{leaksPassword, "passed through  TLS 1.3, resumed   TLS 1.3, resumed   -", "passed through: client's leg: the wiretap has read what should be encrypted"},
		{tapFails, "terminated      TLS 1.3, resumed   FAILED", "terminated: server's leg: the wiretap has not seen the greeting"},
		{corruptsData, "terminated      TLS 1.3, resumed   in clear           FAILED", "terminated: PASV: download: SHA-256 is"},
	} {
		t.Run(string(tt.faulty), func(t *testing.T) {
			st := newFakeTestbed(t)
			st.fault = tt.faulty
			c := fakeSetup
			c.ca = st.ca
			var out strings.Builder
			s := &scenario{out: &out, testbed: st, setup: c, prompt: "gateway# "}
			err := s.runWithTLS(testContext(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %s", err, tt.want)
			}
			if !strings.Contains(out.String(), "\n"+tt.row) {
				t.Errorf("got\n%s\nwant %q in it", out.String(), tt.row)
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
		{leg{sawGreeting: true, sawPassword: true}, false, "the wiretap has not read what is in clear"},
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
