package sessions

import (
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// failing is a session that fails, and why.
type failing struct {
	name string
	do   func(*Record)
	code verdict.Code
	want string
}

func late(r *Record) { r.data.opened = r.data.opened.Add(-30 * time.Second) }

// failed is a transfer that fails, 30 s after its pinhole was opened.
func failed(why *verdict.Fault, o pinhole.Outcome, said string) func(*Record) {
	return func(r *Record) {
		hole(r, &meter{o})
		r.TransferStarted(time.Now(), "RETR", "a")
		late(r)
		r.TransferFinished(false, said, why)
	}
}

// failings returns some.
func failings() []failing {
	came := pinhole.Outcome{Connected: time.Now(), Over: true}
	return []failing{
		{"nothing", func(*Record) {}, verdict.CodeFine, "nothing went wrong: no transfer yet"},
		{"nobody came", failed(nil, pinhole.Outcome{}, "425 no"), verdict.CodeClientNeverConnected,
			"the client never connected to 192.168.5.2:51234 within 30 s"},
		{"nobody came so far", func(r *Record) { hole(r, &meter{}); late(r) }, verdict.CodeWaiting,
			"so far the client never connected to 192.168.5.2:51234 within 30 s"},
		{"nobody came, and no transfer was asked for", func(r *Record) {
			hole(r, &meter{})
			late(r)
			r.Closed()
		}, verdict.CodeClientNeverConnected, "the client never connected"},
		{"closed at once", func(r *Record) { hole(r, &meter{}); r.Closed() }, verdict.CodeFine,
			"nothing went wrong"},
		{"somebody else came", failed(nil,
			pinhole.Outcome{UnexpectedPeer: netip.MustParseAddr("192.168.5.77")}, "425 no"),
			verdict.CodeClientFromElsewhere,
			"192.168.5.77 connected to 192.168.5.2:51234, where only 192.168.5.1 may: the client's"},
		{"the server comes from elsewhere", func(r *Record) {
			r.Opened(Data{Mode: "PORT", Active: true, Path: "kernel", From: server.Addr(), Listen: at,
				Target: client,
				Meter:  &meter{pinhole.Outcome{UnexpectedPeer: netip.MustParseAddr("203.0.113.77")}}},
				time.Now())
			r.TransferStarted(time.Now(), "RETR", "a")
			late(r)
			r.TransferFinished(false, "425 no", nil)
		}, verdict.CodeServerFromElsewhere,
			"203.0.113.77 connected to 192.168.5.2:51234, where only 203.0.113.21 may: the server's"},
		{"the server says no", failed(nil, came, "550 no such file"), verdict.CodeServerRefusedTransfer,
			"the server did not carry out RETR: 550 no such file"},
		{"the server says no at once, and nobody came", func(r *Record) {
			hole(r, &meter{})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.TransferFinished(false, "550 no such file", nil)
		}, verdict.CodeServerRefusedTransfer, "550 no such file"},
		{"a fault of the data path", failed(nil, pinhole.Outcome{Connected: time.Now(), Over: true,
			Failure: &pinhole.Failure{Fault: verdict.Fault{Code: verdict.CodeDataBroken,
				Said: "the server broke it"}}}, "426 broken"),
			verdict.CodeDataBroken, "the data connection broke: the server broke it"},
		{"the server says why it broke the data connection", failed(nil,
			pinhole.Outcome{Connected: time.Now(),
				Over: true, ServerReset: true, Failure: &pinhole.Failure{Fault: verdict.Fault{
					Code: verdict.CodeDataBroken, Said: "the server broke it"}}}, "552 quota exceeded"),
			verdict.CodeServerRefusedTransfer, "the server did not carry out RETR: 552 quota exceeded"},
		{"the server breaks it off", failed(nil, came, "426 broken"), verdict.CodeServerRefusedTransfer,
			"the server aborted RETR: 426 broken"},
		{"the server does not take the data connection", failed(nil, came, "425 no"),
			verdict.CodeServerRefusedTransfer,
			"the server could not use the data connection for RETR: 425 no"},
		{"nobody listens", failed(nil, pinhole.Outcome{Connected: time.Now(),
			Failure: &pinhole.Failure{Fault: verdict.Fault{Code: verdict.CodeServerDataUnreachable, At: at,
				Err: "connect: connection refused"}}}, "425 no"),
			verdict.CodeServerDataUnreachable, "at 192.168.5.2:51234: connection refused"},
		{"a wrong password, and then the right one",
			func(r *Record) { r.Refuse(verdict.Fault{Code: verdict.CodeLoginFailed, Said: "no"}) },
			verdict.CodeFine,
			"nothing went wrong since the login: no transfer yet; before, the server rejected the " +
				"login: no"},
		{"PORT to a third host", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeThirdPartyPort, Verb: "PORT", Peer: client.Addr()})
		}, verdict.CodeThirdPartyPort,
			"the client's PORT names another address than its own, 192.168.5.1: refused"},
		{"data in clear", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeTLSRequired,
				Verb: "PROT"})
		}, verdict.CodeTLSRequired, "the client asked for data in clear with PROT"},
		{"a login in clear", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeTLSRequired,
				Verb: "PASS"})
		}, verdict.CodeTLSRequired, "the client sent PASS in clear"},
		{"no TLS", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeServerTLS, Said: "no TLS with the server: why",
				Err: "e"})
		}, verdict.CodeServerTLS,
			"no TLS with the server: why (e)"},
	}
}

// endings are those of transfers and sessions that were cut off.
func endings() []failing {
	came := pinhole.Outcome{Connected: time.Now(), Over: true}
	return []failing{
		{"aborted", failed(&verdict.Fault{Code: verdict.CodeAborted}, came, "426 aborted"),
			verdict.CodeAborted, "the client aborted RETR with ABOR"},
		{"the client leaves", func(r *Record) {
			hole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.Ends("")
		}, verdict.CodeClientLeft, "the client closed its control connection while RETR ran"},
		{"the session's end cuts a transfer off", func(r *Record) {
			hole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.Refuse(verdict.Fault{Code: verdict.CodeServerLeft,
				Said: "the server has closed the connection", Fatal: true})
			r.Ends("421 ")
		}, verdict.CodeServerLeft, "the server has closed the connection"},
		{"what ends it counts", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeIdle, Said: "idle for 10m0s", Fatal: true})
			r.Refuse(verdict.Fault{Code: verdict.CodeCommandRefused})
		}, verdict.CodeIdle, "timed out: idle for 10m0s"},
		{"killed while a pinhole is open", func(r *Record) {
			hole(r, &meter{})
			late(r)
			r.Refuse(verdict.Fault{Code: verdict.CodeKilled, Fatal: true})
			r.Ends("421 killed")
		}, verdict.CodeKilled, "ended by an operator"},
		{"well after a little fault", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeTLSRefused, Said: "no"})
			hole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.TransferFinished(true, "226", nil)
		}, verdict.CodeFine, "transfers go well (1 transfer"},
		{"well after a fault", func(r *Record) {
			failed(nil, came, "550 no")(r)
			hole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.TransferFinished(true, "226", nil)
		}, verdict.CodeServerRefusedTransfer, "since then 1 transfer was completed"},
	}
}

// TestVerdicts has sessions fail, and asks why.
func TestVerdicts(t *testing.T) {
	for _, test := range append(failings(), endings()...) {
		t.Run(test.name, func(t *testing.T) {
			l := New(time.Now())
			r := logIn(l)
			test.do(r)
			l.Finalize(time.Now().Add(2 * finalizeTimeout))
			v := r.Session(time.Now()).Verdict
			if v.Code != test.code || !strings.Contains(v.Text, test.want) || strings.Count(v.Text,
				"no TLS") > 1 {
				t.Errorf("got %+v; want %s: %s", v, test.code, test.want)
			}
		})
	}
}
