package verdict

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Every code has a sentence, which reads well whatever the fault leaves out.
func TestSentences(t *testing.T) {
	all := maps.Clone(controlSentences)
	maps.Copy(all, dataSentences)
	if len(all) != len(controlSentences)+len(dataSentences) {
		t.Error("a code has two sentences")
	}
	peer, at := netip.MustParseAddr("192.168.5.1"), netip.MustParseAddrPort("192.168.5.2:51234")
	for code := range all {
		full := Fault{Code: code, Verb: "RETR", Reason: "reply", Err: "err", Peer: peer, At: at,
			Waited: time.Second}
		for _, f := range []Fault{{Code: code}, full} {
			v := f.Verdict()
			bad := v.Text == "" || strings.Contains(v.Text, "%!") || strings.HasSuffix(v.Text, ".") ||
				strings.Contains(v.Text, "\n")
			if f.Reason != "" && bad {
				t.Errorf("%s: %q", code, v.Text)
			}
			if strings.ContainsAny(v.Text+v.Remedy, "{|}") {
				t.Errorf("%s: %+v has a field that is not filled in", code, v)
			}
			if strings.Contains(v.Remedy, "%!") || strings.HasSuffix(v.Remedy, ".") {
				t.Errorf("%s: remedy %q", code, v.Remedy)
			}
		}
	}
	if v := (Fault{Code: CodeClientNeverConnected, Remedy: "own"}).Verdict(); v.Remedy != "own" {
		t.Errorf("got remedy %q; want the fault's own", v.Remedy)
	}
}

// A code without a sentence still says what the fault knows.
func TestUnknownCode(t *testing.T) {
	for _, c := range []struct {
		f    Fault
		want string
	}{
		{Fault{Code: "new", Reason: "reply", Err: "err"}, "reply"},
		{Fault{Code: "new", Err: "err"}, "err"},
		{Fault{Code: "new"}, "new"},
	} {
		if got := c.f.Verdict(); got.Text != c.want || got.Code != "new" {
			t.Errorf("%+v: got %+v; want %q", c.f, got, c.want)
		}
	}
}

// The server's reply decides the remedy.
func TestRefusedTransfer(t *testing.T) {
	for reply, want := range map[string][2]string{
		"425 no": {"could not use the data connection for STOR: 425 no",
			"logs of the server and of the client"},
		"426 broken": {"the server reports that STOR broke off: 426 broken",
			"logs of the server and of the client"},
		"452 disk":    {"did not carry out STOR: 452 disk", "free space"},
		"552 quota":   {"did not carry out STOR: 552 quota", "quota"},
		"522 reuse":   {"did not carry out STOR: 522 reuse", "encryption"},
		"532 account": {"did not carry out STOR: 532 account", "permissions"},
		"550 no file": {"did not carry out STOR: 550 no file", "permissions"},
		"":            {"did not carry out STOR: it gave no reason", "permissions"},
	} {
		v := Fault{Code: CodeServerRefusedTransfer, Verb: "STOR", Reason: reply}.Verdict()
		if !strings.Contains(v.Text, want[0]) || !strings.Contains(v.Remedy, want[1]) {
			t.Errorf("%q: got %+v; want %q and %q", reply, v, want[0], want[1])
		}
	}
}

func TestRound(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1234 * time.Nanosecond:    "1µs",
		12_345 * time.Microsecond: "12.3ms",
		1234 * time.Millisecond:   "1.23s",
		59*time.Second + 4567890:  "59s",
	} {
		if got := Round(d).String(); got != want {
			t.Errorf("%v: got %s; want %s", d, got, want)
		}
	}
}

// The kinds of refusals have labels of their own, in snake case: metrics name them.
func TestRefusalLabels(t *testing.T) {
	seen := map[string]bool{}
	for kind := range RefusalKinds {
		w := kind.String()
		if seen[w] || w == "" || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("kind %d: got %q", kind, w)
		}
		seen[w] = true
	}
	if got := RefusalKinds.String(); got != "unknown" {
		t.Errorf("got %q behind the last kind; want unknown", got)
	}
}
