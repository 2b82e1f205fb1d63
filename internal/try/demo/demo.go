// Package demo shows a forward at work in the lab: an FTP server, this program as the gateway, and an FTP
// client that trusts the addresses it receives. It runs without tracking, with kernel tracking, with proxy
// tracking, and with TLS. Where the machine allows no lab, Relay shows the relay on loopback.
//
// Everything that it starts ends with the program. It never changes an address, a rule or a file of the
// host. Data stays in memory; certificates are in a temporary directory, which is removed at the end. The
// gateway is the real one, started as a process; no code in this package translates an address.
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

// runTimeout ends a run that hangs. A run takes ten seconds, and on an emulated processor many minutes.
const runTimeout = 30 * time.Minute

// Options are the arguments with which this program starts itself.
type Options struct {
	// DemoArgs call Main again, inside the namespaces of the lab: "demo".
	DemoArgs []string
	// ServeArgs call Serve: "demo", "serve". The flags of TLSOptions (--tls-cert, --tls-key and
	// --tls-only) and the address follow.
	ServeArgs []string
	// ForwardArgs start the gateway: "forward". Flags, LISTEN and SERVER follow.
	ForwardArgs []string
	// ExplainArgs explain a session of a gateway: "explain". The flag --socket and the session follow.
	ExplainArgs []string
	// Act is the number of the act that runs alone; 0: all. Relay has one act, and does not read it.
	Act int
}

// ErrNoAct reports that the demo has no act of this number.
var ErrNoAct = scenario.ErrNoAct

// ExitError reports that the demo failed in the process inside the lab, which has already printed the
// reason to standard error.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("the demo ended with exit status %d", e.Code) }

// Main runs the demo. Outside of the lab's namespaces it runs this program again inside them, with the same
// standard files, and waits. Inside it runs the scenario and writes the report to out.
//
// The error is an *ExitError if the process inside failed. It wraps a *lab.RefusedError if the kernel refuses
// the namespaces, or ErrNoAct. Otherwise it lists the steps that failed. Main stops when ctx is done, and
// leaves nothing behind then either.
func Main(ctx context.Context, out io.Writer, opts Options) error {
	if err := scenario.CheckAct(opts.Act); err != nil {
		return err
	}
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
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return labError(err)
	}
	err = withCertificates(func(a *testca.Authority, dir string) error {
		return scenario.Run(ctx, out, labTestbed(l, opts, dir), scenario.LabSetup(a), opts.Act)
	})
	return errors.Join(err, l.Close())
}

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("the demo did not end within %s", runTimeout))
}

// labError adds to an error of the lab, which has its own remedy, that --relay needs no lab.
func labError(err error) error {
	return fmt.Errorf("demo: cannot build the lab of network namespaces on this machine "+
		"(demo --relay needs none): %w", err)
}

// Relay shows the relay on this machine's loopback, without any privilege, and writes the report to out. It
// changes nothing on the machine. When it returns, also because ctx is done, everything that it started has
// ended. The error lists the steps that failed.
func Relay(ctx context.Context, out io.Writer, opts Options) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	return scenario.RunRelay(ctx, out, localTestbed(opts), scenario.LoopbackSetup())
}
