package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"syscall"

	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/demo/transcript"
	"ftpgate/internal/try/lab"
)

// machine is a host that programs can be started on.
type machine interface {
	scenario.Host
	Start(*exec.Cmd) error
}

// testbed plays a story with real processes. It implements story.Stage.
type testbed struct {
	client, gateway, server machine
	opts                    Options
	dir                     string // where server and gateway find their certificates; may be empty
	tap                     func() (scenario.Tap, error)
}

// labTestbed is a stage of three hosts, with certificates in dir.
func labTestbed(l *lab.Lab, opts Options, dir string) *testbed {
	return &testbed{
		client: l.Client(), gateway: l.Gateway(), server: l.Server(), opts: opts, dir: dir,
		tap: func() (scenario.Tap, error) { return startTaps(l.Gateway()) },
	}
}

// localTestbed is a stage on this machine alone, where nobody may read along.
func localTestbed(opts Options) *testbed {
	return &testbed{client: localHost{}, gateway: localHost{}, server: localHost{}, opts: opts,
		tap: func() (scenario.Tap, error) { return nil, errors.New("there is none outside of the lab") }}
}

// localHost is the host that this program runs on. It implements machine.
type localHost struct{}

func (localHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (localHost) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

func (localHost) Start(cmd *exec.Cmd) error { return cmd.Start() }

func (s *testbed) ClientHost() scenario.Host { return s.client }
func (s *testbed) ServerHost() scenario.Host { return s.server }

// Tap implements story.Stage.
func (s *testbed) Tap() (scenario.Tap, error) { return s.tap() }

// StartServer implements story.Stage.
func (s *testbed) StartServer(ctx context.Context, address string, e scenario.TLSMode) (scenario.Server, error) {
	cmd := ownCommand(append(slices.Clone(s.opts.ServeArgs), append(tlsFlags(e), address)...))
	cmd.Dir = s.dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return scenario.Server{}, fmt.Errorf("start the server: %w", err)
	}
	out, in := io.Pipe()
	log := &logBuffer{}
	cmd.Stdout, cmd.Stderr = in, log
	p, err := startProcess(s.server, cmd, func() { _ = in.Close() })
	if err != nil {
		return scenario.Server{}, fmt.Errorf("start the server: %w", err)
	}
	witness := transcript.ReadServerLog(out)
	stop := func() error {
		err := p.stop(stdin.Close)
		witness.Close()
		if err == nil && p.err != nil {
			err = fmt.Errorf("%w:%s", p.err, log.quote())
		}
		if err != nil {
			return fmt.Errorf("stop the server: %w", err)
		}
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("it is not ready within %s", startTimeout))
	defer cancel()
	at, err := witness.Next(ctx, transcript.Ready)
	if err != nil {
		_ = stop() // it has said why in its log
		return scenario.Server{}, fmt.Errorf("start the server: %w%s", err, log.quote())
	}
	return scenario.Server{Log: witness, Address: at, Stop: stop}, nil
}

// tlsFlags is the flags of the server's command.
func tlsFlags(e scenario.TLSMode) []string {
	if e == scenario.TLSOff {
		return nil
	}
	flags := []string{"--tls-cert=" + serverFile, "--tls-key=" + serverKeyFile}
	if e == scenario.TLSRequired {
		flags = append(flags, "--tls-only")
	}
	return flags
}

// StartGateway implements story.Stage: it runs `ftpgate forward` with these arguments, and waits until
// it says that the kernel has the rules.
func (s *testbed) StartGateway(ctx context.Context, args []string) (scenario.Gateway, error) {
	cmd := ownCommand(append(slices.Clone(s.opts.ForwardArgs), args...))
	cmd.Dir = s.dir
	log := &logBuffer{ready: make(chan struct{})}
	cmd.Stderr = log
	p, err := startProcess(s.gateway, cmd, func() {})
	if err != nil {
		return scenario.Gateway{}, fmt.Errorf("start the gateway: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("it is not ready within %s", startTimeout))
	defer cancel()
	select {
	case <-log.ready:
	case <-p.ended:
		return scenario.Gateway{}, fmt.Errorf("the gateway cannot start (%s):%s", p.exitText(), log.quote())
	case <-ctx.Done():
		return scenario.Gateway{}, errors.Join(fmt.Errorf("start the gateway: %w%s", context.Cause(ctx), log.quote()), p.kill())
	}
	stop := func() error {
		err := p.stop(func() error { return p.cmd.Process.Signal(syscall.SIGINT) })
		if err == nil && p.err != nil {
			err = fmt.Errorf("%w:%s", p.err, log.quote())
		}
		if err != nil {
			return fmt.Errorf("stop the gateway: %w", err)
		}
		return nil
	}
	return scenario.Gateway{Stop: stop, Log: log.quote}, nil
}
