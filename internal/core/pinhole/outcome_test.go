package pinhole

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/verdict"
)

// A Failure is found behind other errors, and its cause behind it.
func TestFailure(t *testing.T) {
	failure := &Failure{Err: fmt.Errorf("read: %w", io.EOF), ReplyCode: 426, Reason: "it broke",
		Fault: verdict.Fault{Code: verdict.CodeDataBroken}}
	err := fmt.Errorf("finish: %w", failure)
	got, ok := errors.AsType[*Failure](err)
	if !ok || got != failure {
		t.Errorf("got %v; want the failure behind %v", got, err)
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("got %v; want its cause %v", err, io.EOF)
	}
	if got, want := err.Error(), "finish: read: EOF"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// A failure without a fault's code leaves the verdict to the session.
func TestOutcomeFault(t *testing.T) {
	broken := verdict.Fault{Code: verdict.CodeDataBroken, Reason: "the server broke it"}
	for _, tt := range []struct {
		failure *Failure
		want    *verdict.Fault
	}{
		{nil, nil},
		{&Failure{Err: io.EOF, Fault: verdict.Fault{Err: "EOF"}}, nil},
		{&Failure{Err: io.EOF, Fault: broken}, &broken},
	} {
		got := Outcome{Failure: tt.failure}.Fault()
		if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%+v: got %+v; want %+v", tt.failure, got, tt.want)
		}
	}
}

// Why a transfer failed: the gateway's knowledge counts where the server cannot have it.
func TestTransferFailure(t *testing.T) {
	complete, held := TransferEnd{Complete: true}, TransferEnd{Complete: true, Held: true}
	no, dataRefused := TransferEnd{}, TransferEnd{DataRefused: true}
	ours := &Failure{Err: io.EOF, ReplyCode: 426, Reason: "it broke"}
	theirs := &Failure{Err: io.ErrUnexpectedEOF}
	other, came := netip.MustParseAddr("203.0.113.9"), time.Unix(1, 0)
	strange := Outcome{Counted: true, Complete: true, UnexpectedPeer: other}
	reset := Outcome{Failure: theirs, ServerReset: true, Down: 1}
	for name, tt := range map[string]struct {
		outcome Outcome
		end     TransferEnd
		want    string // the cause; empty: as the server says
	}{
		"as the server says":     {Outcome{Complete: true}, complete, ""},
		"no, as the server says": {Outcome{Complete: true}, no, ""},
		"no peer but another":    {strange, complete, errUnexpectedPeer.Error()},
		"not counted":            {Outcome{Complete: true, UnexpectedPeer: other}, complete, ""},
		"another, and the right one": {Outcome{Counted: true, Complete: true, UnexpectedPeer: other,
			Connected: came}, complete, ""},
		"another, and a no":          {strange, no, ""},
		"the gateway broke it":       {Outcome{Failure: ours}, complete, "EOF"},
		"the gateway broke it, a no": {Outcome{Failure: ours}, dataRefused, "EOF"},
		"broken, and yet complete":   {Outcome{Failure: ours, Complete: true}, held, ""},
		"an end broke it":            {Outcome{Failure: theirs}, held, ""},
		"a download is cut short":    {reset, held, "unexpected EOF"},
		"its reply is not held":      {reset, complete, ""},
		"nothing had come":           {Outcome{Failure: theirs, ServerReset: true}, held, ""},
		"TLS was not resumed": {Outcome{Complete: true, NotResumed: true}, dataRefused,
			notResumed().Error()},
		"not resumed, another no":      {Outcome{Complete: true, NotResumed: true}, no, ""},
		"not resumed, and complete":    {Outcome{Complete: true, NotResumed: true}, complete, ""},
		"not resumed, and then broken": {Outcome{Failure: ours, NotResumed: true}, dataRefused, "EOF"},
	} {
		got := ""
		if f := tt.outcome.TransferFailure(tt.end); f != nil {
			got = f.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q; want %q", name, got, tt.want)
		}
	}
}
