package refusal

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// Every kind of refusal has a verdict.
func TestCodes(t *testing.T) {
	for kind := verdict.NotRefused + 1; kind < verdict.RefusalKinds; kind++ {
		if New(kind, "", "no").Fault().Code == "" {
			t.Errorf("%s has no verdict", kind)
		}
	}
}

func TestFault(t *testing.T) {
	at := netip.MustParseAddrPort("192.168.5.2:50000")
	classified := &pinhole.Failure{Err: errors.New("no handshake"), Reason: "no TLS", Remedy: "mend it",
		Fault: verdict.Fault{Code: verdict.CodeSessionReuseMissing, At: at, Err: "not resumed"}}
	login := New(verdict.RefusedLogin, "", "login failed")
	login.Reply = "530 no"
	fatalLogin := login
	fatalLogin.Fatal = true
	same := New(verdict.RefusedUnreachable, "", "the server does not answer")
	same.Err = errors.New("the server does not answer")
	for name, tt := range map[string]struct {
		r    Refusal
		want verdict.Fault
	}{
		"the kind's code": {New(verdict.RefusedPort, "", "no"),
			verdict.Fault{Code: verdict.CodeLowPort, Reason: "no"}},
		"a code": {New(verdict.RefusedPort, verdict.CodeServerLowPort, "no"),
			verdict.Fault{Code: verdict.CodeServerLowPort, Reason: "no"}},
		"the data path's": {FromData(classified), verdict.Fault{Code: verdict.CodeSessionReuseMissing,
			Reason: "no TLS",
			Remedy: "mend it", At: at, Err: "not resumed"}},
		"not the path's": {FromData(errors.New("reset")),
			verdict.Fault{Code: verdict.CodeDataBroken, Err: "reset"}},
		"login": {login, verdict.Fault{Code: verdict.CodeLoginFailed, Reason: "530 no"}},
		"the last login": {fatalLogin, verdict.Fault{Code: verdict.CodeLoginFailed, Reason: "login failed",
			Fatal: true}},
		"nothing twice": {same, verdict.Fault{Code: verdict.CodeServerUnreachable,
			Reason: "the server does not answer"}},
	} {
		if got := tt.r.Fault(); got != tt.want {
			t.Errorf("%s: got %+v; want %+v", name, got, tt.want)
		}
	}
}

// A refusal is recorded, counted and logged, each where it belongs.
func TestReport(t *testing.T) {
	withRemedy := New(verdict.RefusedAddress, "", "not yours")
	withRemedy.Remedy, withRemedy.Err = "mend it", errors.New("cause")
	for name, tt := range map[string]struct {
		r        Refusal
		recorded verdict.Code
		counted  bool
		logged   string
	}{
		"a refusal": {withRemedy, verdict.CodeThirdPartyPort, true,
			`level=WARN msg="request refused" who=me kind=address reason="not yours" ` +
				`remedy="mend it" err=cause`},
		"a failed login": {Refusal{Refusal: verdict.Refusal{Kind: verdict.RefusedLogin,
			Reason: "login failed"},
			User: `a" who=you`, Reply: "530 no"}, verdict.CodeLoginFailed, true,
			`level=WARN msg="login failed" who=me user="a\" who=you" kind=login reason="login failed" ` +
				`reply="530 no" remedy=`},
		"a broken transfer": {FromData(errors.New("reset")), verdict.CodeFine, true,
			`kind=broken_transfer reason="" remedy="check the log of the end that broke it, and the `},
		"the server's": {New(verdict.NotRefused, verdict.CodeServerRefusedPASV, "500 no"),
			verdict.CodeServerRefusedPASV, false, ""},
		"nothing": {Refusal{}, verdict.CodeFine, false, ""},
	} {
		var logged bytes.Buffer
		var counted []verdict.RefusalKind
		reporter := Reporter{
			Log:   slog.New(slog.NewTextHandler(&logged, nil)),
			Count: func(kind verdict.RefusalKind) { counted = append(counted, kind) },
		}
		sessionLog := sessions.New(time.Now())
		record := sessionLog.Begin(sessions.Start{})
		reporter.Report(record, tt.r, func() []slog.Attr { return []slog.Attr{slog.String("who", "me")} })
		if got := record.Session(time.Now()).Verdict.Code; got != tt.recorded {
			t.Errorf("%s: recorded %s; want %s", name, got, tt.recorded)
		}
		if want := tt.counted; want != slices.Contains(counted, tt.r.Kind) {
			t.Errorf("%s: counted %v; want %t", name, counted, want)
		}
		if got := logged.String(); !strings.Contains(got, tt.logged) || tt.logged == "" && got != "" {
			t.Errorf("%s: logged %q; want %q", name, got, tt.logged)
		}
	}
}
