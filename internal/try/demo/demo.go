// Package demo tells the story of a forward in the lab: an FTP server, the gateway that this
// very program is, and a client that believes what it is told, first without tracking, then with
// the kernel's and with the proxy's, and at last with TLS. Where there can be no lab it tells of the
// relay, on loopback.
//
// What it starts ends with the program. It never touches an address, a rule or a file of the
// host, and keeps its data in memory; its certificates lie in a directory of their own, and are
// removed at the end. The gateway that it shows is the real one, started as a
// process; nothing in here translates an address.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/testca"
)

// runTimeout ends a story that hangs. It takes three or four seconds where nothing does.
const runTimeout = 60 * time.Second

// Options say how this program calls itself.
type Options struct {
	// DemoArgs are the arguments that lead to Main once more, inside the lab's namespaces: "demo".
	DemoArgs []string
	// ServeArgs are the arguments that lead to Serve; the flags of Encryption (--tls-cert, --tls-key and
	// --tls-only) and the address are put behind them: "demo", "serve".
	ServeArgs []string
	// ForwardArgs is the command that publishes a server, to which flags, LISTEN and SERVER are
	// added: "forward".
	ForwardArgs []string
}

// ExitError tells that the story did not go as it should, and that the process which told it
// has said why on the standard error already.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("the demo ended with exit status %d", e.Code) }

// Main tells the story. Called by a user it runs this program again in namespaces of its own,
// with the same standard files, and waits; called there it writes the story to out.
//
// The error is an *ExitError where the process inside has failed, wraps a *lab.RefusedError
// where the kernel refuses the namespaces, and else says what went differently from the story.
// When ctx is done the story is broken off; nothing is left behind then either.
func Main(ctx context.Context, out io.Writer, opts Options) error {
	if !lab.Inside() {
		code, err := lab.Enter(opts.DemoArgs)
		if err != nil {
			return labError(err)
		}
		if code != 0 {
			return &ExitError{Code: code}
		}
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("the story has not ended within %s", runTimeout))
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return labError(err)
	}
	err = withCertificates(func(a *testca.Authority, dir string) error {
		return scenario.Run(ctx, out, labTestbed(l, opts, dir), scenario.LabSetup(a))
	})
	return errors.Join(err, l.Close())
}

// labError says which part of the demo is missing, beside what the lab says about the remedy.
func labError(err error) error {
	return fmt.Errorf("demo: the lab of network namespaces cannot be built on this machine (demo --relay does without): %w", err)
}

// Relay tells the story of the relay, on this machine's loopback and without any privilege, and writes
// it to out. Nothing of the machine is changed, and what was started has ended when it returns, also
// when ctx is done. The error says what went differently from the story.
func Relay(ctx context.Context, out io.Writer, opts Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("the story has not ended within %s", runTimeout))
	defer cancel()
	return scenario.RunRelay(ctx, out, localTestbed(opts), scenario.LoopbackSetup())
}
