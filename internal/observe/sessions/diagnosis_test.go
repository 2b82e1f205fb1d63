package sessions

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
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
		openPinhole(r, &meter{o})
		r.TransferStarted(time.Now(), "RETR", "a")
		late(r)
		r.TransferFinished(false, said, why)
	}
}

// filtered is the outcome of a connection that a filter of the gateway refused, or missing rules.
func filtered() pinhole.Outcome {
	return pinhole.Outcome{Over: true, Failure: &pinhole.Failure{Err: errors.New("refused"),
		Fault: verdict.Fault{Code: verdict.CodeGatewayFilter, Peer: client.Addr()}}}
}

// failings returns some.
func failings() []failing {
	came := pinhole.Outcome{Connected: time.Now(), Over: true}
	return []failing{
		{"nothing", func(*Record) {}, verdict.CodeFine, "nothing went wrong: no transfer yet"},
		{"the first transfer runs", func(r *Record) {
			openPinhole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
		}, verdict.CodeFine, "nothing went wrong so far: RETR is running"},
		{"no peer came", failed(nil, pinhole.Outcome{}, "425 no"), verdict.CodeClientNeverConnected,
			"the client never connected to 192.168.5.2:51234 within 30 s"},
		{"no peer came so far", func(r *Record) { openPinhole(r, &meter{}); late(r) }, verdict.CodeWaiting,
			"so far the client never connected to 192.168.5.2:51234 within 30 s"},
		{"no peer came, and no transfer was asked for", func(r *Record) {
			openPinhole(r, &meter{})
			late(r)
			r.Closed()
		}, verdict.CodeClientNeverConnected, "the client never connected"},
		{"closed at once", func(r *Record) { openPinhole(r, &meter{}); r.Closed() }, verdict.CodeFine,
			"nothing went wrong"},
		{"another peer came", failed(nil,
			pinhole.Outcome{UnexpectedPeer: netip.MustParseAddr("192.168.5.77")}, "425 no"),
			verdict.CodeClientFromElsewhere,
			"192.168.5.77 connected to 192.168.5.2:51234, which is reserved for 192.168.5.1: the client's"},
		{"a filter of the gateway", failed(nil, filtered(), "425 no"), verdict.CodeGatewayFilter,
			"192.168.5.1 connected to 192.168.5.2:51234, and the gateway's own firewall did not let"},
		{"rules that were restored before", func(r *Record) {
			restored := time.Now().Add(-time.Hour)
			r.log.RulesRestored = func() time.Time { return restored }
			failed(nil, filtered(), "425 no")(r)
		}, verdict.CodeGatewayFilter, "the gateway's own firewall did not let"},
		{"rules that another program removed", func(r *Record) {
			restored := time.Now()
			r.log.RulesRestored = func() time.Time { return restored }
			failed(nil, filtered(), "425 no")(r)
		}, verdict.CodeRulesRemoved,
			"192.168.5.1 connected to 192.168.5.2:51234, probably while another program had removed"},
		{"the server comes from elsewhere", func(r *Record) {
			r.Opened(Data{Mode: "PORT", Active: true, Path: "kernel", From: server.Addr(), Listen: at,
				Target: client,
				Meter:  &meter{pinhole.Outcome{UnexpectedPeer: netip.MustParseAddr("203.0.113.77")}}},
				time.Now())
			r.TransferStarted(time.Now(), "RETR", "a")
			late(r)
			r.TransferFinished(false, "425 no", nil)
		}, verdict.CodeServerFromElsewhere,
			"203.0.113.77 connected to 192.168.5.2:51234, which is reserved for 203.0.113.21: the server's"},
		{"the server says no", failed(nil, came, "550 no such file"), verdict.CodeServerRefusedTransfer,
			"the server did not carry out RETR: 550 no such file"},
		{"the server says no at once, and no peer came", func(r *Record) {
			openPinhole(r, &meter{})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.TransferFinished(false, "550 no such file", nil)
		}, verdict.CodeServerRefusedTransfer, "550 no such file"},
		{"a fault of the data path", failed(nil, pinhole.Outcome{Connected: time.Now(), Over: true,
			Failure: &pinhole.Failure{Fault: verdict.Fault{Code: verdict.CodeDataBroken,
				Reason: "the server broke it"}}}, "426 broken"),
			verdict.CodeDataBroken, "the data connection broke: the server broke it"},
		{"the server says why it broke the data connection", failed(nil,
			pinhole.Outcome{Connected: time.Now(),
				Over: true, ServerReset: true, Failure: &pinhole.Failure{Fault: verdict.Fault{
					Code: verdict.CodeDataBroken, Reason: "the server broke it"}}}, "552 quota exceeded"),
			verdict.CodeServerRefusedTransfer, "the server did not carry out RETR: 552 quota exceeded"},
		{"the server breaks it off", failed(nil, came, "426 broken"), verdict.CodeServerRefusedTransfer,
			"the server reports that RETR broke off: 426 broken"},
		{"the server does not take the data connection", failed(nil, came, "425 no"),
			verdict.CodeServerRefusedTransfer,
			"the server could not use the data connection for RETR: 425 no"},
		{"no program listens", failed(nil, pinhole.Outcome{Connected: time.Now(),
			Failure: &pinhole.Failure{Fault: verdict.Fault{Code: verdict.CodeServerDataUnreachable, At: at,
				Err: "connect: connection refused"}}}, "425 no"),
			verdict.CodeServerDataUnreachable, "at 192.168.5.2:51234: connection refused"},
		{"a wrong password, and then the right one",
			func(r *Record) { r.Refuse(verdict.Fault{Code: verdict.CodeLoginFailed, Reason: "no"}) },
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
		{"a command that the server refuses", func(r *Record) {
			r.Command(time.Now(), "SIZE x")
			r.Reply(time.Now(), "550 no such file", false)
			r.Answered("SIZE", "550 no such file")
		}, verdict.CodeServerRefusedCommand, "the server refused SIZE: 550 no such file"},
		{"a command that the server does not know", func(r *Record) { r.Answered("FEAT", "502 no") },
			verdict.CodeFine, "nothing went wrong"},
		{"a folder that is there the second time", func(r *Record) {
			r.Answered("CWD", "550 no such folder")
			r.Answered("MKD", "257 made")
			r.Answered("CWD", "250 there")
		}, verdict.CodeFine, "nothing went wrong"},
		{"a server that does not answer", func(r *Record) {
			r.Command(time.Now().Add(-12*time.Second), "CWD /tape")
		}, verdict.CodeWaiting, "so far the server did not answer CWD within 12 s"},
		{"a server that has not answered yet", func(r *Record) { r.Command(time.Now(), "CWD /tape") },
			verdict.CodeFine, "nothing went wrong"},
		{"three faults, the first one counts", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeThirdPartyPort, Verb: "PORT", Peer: client.Addr()})
			r.Refuse(verdict.Fault{Code: verdict.CodeFamily, Verb: "EPSV", Reason: "no"})
			r.Refuse(verdict.Fault{Code: verdict.CodeLowPort, Verb: "PORT", Reason: "port 1023"})
		}, verdict.CodeThirdPartyPort, "the client's PORT names another address than its own, 192.168.5.1: " +
			"refused; after that, PORT was refused: port 1023"},
		{"one fault twice", func(r *Record) {
			failed(nil, pinhole.Outcome{}, "425 no")(r)
			failed(nil, pinhole.Outcome{}, "425 no")(r)
		}, verdict.CodeClientNeverConnected, "within 30 s"},
		{"passed through", func(r *Record) { r.PassedThrough("ports 50000-50100") }, verdict.CodeFine,
			"the session is passed through encrypted: the gateway does not see its transfers"},
		{"no TLS", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeServerTLS, Reason: "no TLS with the server: why",
				Err: "e"})
		}, verdict.CodeServerTLS,
			"no TLS with the server: why (e)"},
	}
}

// broken are transfers whose data connection broke, and what the server says about it.
func broken() []failing {
	fault := func(by string) *pinhole.Failure {
		return &pinhole.Failure{Fault: verdict.Fault{Code: verdict.CodeDataBroken, Reason: by}}
	}
	byClient := pinhole.Outcome{Connected: time.Now(), Over: true, Failure: fault("the client broke it")}
	byServer := pinhole.Outcome{Connected: time.Now(), Over: true, Failure: fault("the server broke it")}
	// behindReply has the data connection break once the server has replied.
	behindReply := func(reply string, o pinhole.Outcome) func(*Record) {
		return func(r *Record) {
			m := &meter{pinhole.Outcome{Connected: time.Now()}}
			openPinhole(r, m)
			r.TransferStarted(time.Now(), "STOR", "a")
			r.TransferFinished(false, reply, nil)
			m.o = o
		}
	}
	const full = "the server did not carry out STOR: 552 quota"
	return []failing{
		{"the client breaks what the server has refused", behindReply("552 quota", byClient),
			verdict.CodeServerRefusedTransfer, full},
		{"the server breaks it behind its reply", behindReply("552 quota", byServer),
			verdict.CodeServerRefusedTransfer, full},
		{"the client breaks it, and the server has no other word for that", failed(nil, byClient,
			"451 local error"), verdict.CodeDataBroken, "the data connection broke: the client broke it"},
		{"a 426 behind what the client broke", failed(nil, byClient, "426 broken"), verdict.CodeDataBroken,
			"the client broke it"},
		{"a 226 behind what the client broke", func(r *Record) {
			openPinhole(r, &meter{byClient})
			r.TransferStarted(time.Now(), "STOR", "a")
			r.TransferFinished(true, "226 done", nil)
		}, verdict.CodeDataBroken, "the data connection broke: the client broke it"},
		{"a client that breaks a whole upload", func(r *Record) {
			whole := byClient
			whole.BrokeAfterEnd = true
			openPinhole(r, &meter{whole})
			r.TransferStarted(time.Now(), "STOR", "a")
			r.TransferFinished(true, "226 done", nil)
		}, verdict.CodeFine, "nothing went wrong: 1 transfer"},
		{"a 226 behind what the gateway ended", func(r *Record) {
			openPinhole(r, &meter{pinhole.Outcome{Connected: time.Now(), Over: true,
				Failure: &pinhole.Failure{}}})
			r.TransferStarted(time.Now(), "STOR", "a")
			r.TransferFinished(true, "226 done", nil)
		}, verdict.CodeDataBroken, "the data connection broke: the gateway ended it"},
	}
}

// endings are those of transfers and sessions that were cut off.
func endings() []failing {
	came := pinhole.Outcome{Connected: time.Now(), Over: true}
	return []failing{
		{"aborted", failed(&verdict.Fault{Code: verdict.CodeAborted}, came, "426 aborted"),
			verdict.CodeAborted, "the client aborted RETR with ABOR"},
		{"the client leaves", func(r *Record) {
			openPinhole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.Ended("")
		}, verdict.CodeClientLeft, "the client closed its control connection while RETR ran"},
		{"the session's end cuts a transfer off", func(r *Record) {
			openPinhole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.Refuse(verdict.Fault{Code: verdict.CodeServerLeft,
				Reason: "the server closed the connection", Fatal: true})
			r.Ended("421 ")
		}, verdict.CodeServerLeft, "the server closed the connection"},
		{"a server that leaves behind a transfer", func(r *Record) {
			openPinhole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.TransferFinished(true, "226", nil)
			r.Fault(verdict.Fault{Code: verdict.CodeServerLeft,
				Reason: "the server closed the connection", Fatal: true})
			r.Ended("421 ")
		}, verdict.CodeServerLeft,
			"the server closed the connection; before, 1 transfer was completed"},
		{"a client that waits in vain, and leaves", func(r *Record) {
			r.Command(time.Now().Add(-12*time.Second), "CWD /tape")
			r.Ended("")
		}, verdict.CodeServerNoReply, "the server did not answer CWD within 12 s"},
		{"a client that does not wait for the answer to QUIT", func(r *Record) {
			r.Command(time.Now().Add(-12*time.Second), "QUIT")
			r.Ended("")
		}, verdict.CodeFine, "nothing went wrong"},
		{"what ends it counts", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeIdle, Reason: "idle for 10m0s", Fatal: true})
			r.Refuse(verdict.Fault{Code: verdict.CodeCommandRefused})
		}, verdict.CodeIdle, "timed out: idle for 10m0s"},
		{"killed while a pinhole is open", func(r *Record) {
			openPinhole(r, &meter{})
			late(r)
			r.Refuse(verdict.Fault{Code: verdict.CodeKilled, Fatal: true})
			r.Ended("421 killed")
		}, verdict.CodeKilled, "ended by an operator"},
		{"well after a little fault", func(r *Record) {
			r.Refuse(verdict.Fault{Code: verdict.CodeTLSRefused, Reason: "no"})
			openPinhole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.TransferFinished(true, "226", nil)
		}, verdict.CodeFine, "transfers go well (1 transfer"},
		{"well after a fault", func(r *Record) {
			failed(nil, came, "550 no")(r)
			openPinhole(r, &meter{came})
			r.TransferStarted(time.Now(), "RETR", "a")
			r.TransferFinished(true, "226", nil)
		}, verdict.CodeServerRefusedTransfer, "since then 1 transfer was completed"},
	}
}

// TestVerdicts has sessions fail, and asks why.
func TestVerdicts(t *testing.T) {
	for _, test := range slices.Concat(failings(), broken(), endings()) {
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

// If the server did not connect, and is banned, the remedy says so; if it is not banned, or another host
// connected, it does not.
func TestServerBanned(t *testing.T) {
	for _, test := range []struct {
		banned string
		o      pinhole.Outcome
		want   bool
	}{
		{server.Addr().String(), pinhole.Outcome{}, true},
		{client.Addr().String(), pinhole.Outcome{}, false},
		{server.Addr().String(), pinhole.Outcome{UnexpectedPeer: netip.MustParseAddr("203.0.113.99")}, false},
	} {
		l := New(time.Now())
		l.Banned = func(addr netip.Addr) bool { return addr.String() == test.banned }
		r := logIn(l)
		r.Connected(server, time.Millisecond)
		r.Opened(Data{Mode: "PORT", Active: true, Path: "kernel", From: server.Addr(), Listen: at,
			Target: netip.AddrPortFrom(client.Addr(), 40000), SourceIP: at.Addr(), Meter: &meter{test.o}},
			time.Now())
		r.TransferStarted(time.Now(), "RETR", "a")
		late(r)
		r.TransferFinished(false, "425 cannot connect", nil)
		l.Finalize(time.Now().Add(2 * finalizeTimeout))
		v := r.Session(time.Now()).Verdict
		if got := strings.HasPrefix(v.Remedy, "the server's address is banned"); got != test.want {
			t.Errorf("%s is banned: got %+v; want the ban named %t", test.banned, v, test.want)
		}
	}
}
