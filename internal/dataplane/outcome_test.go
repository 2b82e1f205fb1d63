package dataplane

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
