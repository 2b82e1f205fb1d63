package cli

import (
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// failedSession is a source with a session that has failed.
func failedSession() *answers {
	began := time.Date(2026, 3, 14, 9, 26, 53, 0, time.Local)
	s := oneSession(began)
	s.Since, s.Ended, s.State, s.Transfer = began, began.Add(3725*time.Second+250*time.Millisecond),
		sessions.StateEnded, nil
	s.Totals = sessions.Totals{Failed: 1}
	s.Verdict = verdict.Verdict{
		Code: verdict.CodeClientNeverConnected,
		Text: "the client never connected to 192.168.5.2:51234 within 30 s: a firewall between it and " +
			"the gateway drops ports 49152-65535",
		Remedy: "let the client reach ports 49152-65535 of the gateway",
	}
	at := func(d time.Duration, k sessions.Kind, data int, text string) sessions.Event {
		return sessions.Event{At: began.Add(d), Kind: k, Data: data, Text: text}
	}
	return &answers{ended: []sessions.Session{s}, events: []sessions.Event{
		at(0, sessions.KindSession, 0, "192.168.5.17:40112 has connected"),
		at(412*time.Millisecond, sessions.KindCommand, 0, "CWD /中/\x1b[31m"),
		at(62*time.Second, sessions.KindPinhole, 1, "opened for 192.168.5.17 to 192.168.5.2:51234, which "+
			"leads to 203.0.113.21:50017 and ends after 30 s"),
		at(3725*time.Second, sessions.KindSession, 0, "ended"),
	}}
}

func TestExplain(t *testing.T) {
	socket := answering(t, failedSession())
	wantOut(t, newExplain(),
		"verdict    the client never connected to 192.168.5.2:51234 within 30 s: a firewall between it "+
			"and the gateway drops ports 49152-65535\n"+
			`remedy     let the client reach ports 49152-65535 of the gateway

session    3p5kx-17 of forward archive, tracking proxy
client     192.168.5.17:40112, at the gateway's 192.168.5.2:2121
server     203.0.113.21:21
user       anna
since      2026-03-14 09:26:53, ended after 1h2m5.25s
TLS        client TLS 1.3
transfers  0, 1 failed; 0 B up, 0 B down

     0.000  session      192.168.5.17:40112 has connected
     0.412  command      CWD /中/\x1b[31m
  1:02.000  pinhole 1    opened for 192.168.5.17 to 192.168.5.2:51234, which leads to `+
			`203.0.113.21:50017 and ends after 30 s
1:02:05.000  session      ended
`, "3p5kx-17", "--socket", socket)
	got := onTerminal(t, 80, newExplain(), "3p5kx-17", "--socket", socket)
	for _, want := range []string{
		"verdict    the client never connected to 192.168.5.2:51234 within 30 s: a\n           firewall " +
			"between it",
		"  1:02.000  pinhole 1    opened for 192.168.5.17 to 192.168.5.2:51234, which\n                    " +
			"     leads to 203.0.113.21:50017",
		`CWD /\u4e2d/\x1b[31m`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant it wrapped:\n%s", got, want)
		}
	}
}

func TestExplainJSON(t *testing.T) {
	var out strings.Builder
	_, status := try(t.Context(), newExplain(), &out, "3p5kx-17", "--json", "--socket",
		answering(t, failedSession()))
	if got := out.String(); status != 0 || !strings.HasPrefix(got, "{\n  \"id\": \"3p5kx-17\",\n") ||
		!strings.Contains(got, `中/\u001b[31m`) {
		t.Errorf("got exit status %d,\n%s\nwant what the server has sent", status, got)
	}
}
