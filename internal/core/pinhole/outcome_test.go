package pinhole

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"ftpgate/internal/core/verdict"
)

// A Failure is found behind other errors, and its cause behind it.
func TestFailure(t *testing.T) {
	failure := &Failure{Err: fmt.Errorf("read: %w", io.EOF), ReplyCode: 426, ReplyText: "it broke",
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
	broken := verdict.Fault{Code: verdict.CodeDataBroken, Said: "the server broke it"}
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
