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

	"ftpgate/internal/lab"
)

// machine is a host that programs can be started on.
type machine interface {
	host
	Start(*exec.Cmd) error
}

// processStage plays a story with real processes. It implements stage.
type processStage struct {
	client, gateway, server machine
	opts                    Options
	serving                 struct { // from startServer until endServer
		*process
		stdin   io.Closer
		witness *witness
	}
}

// inLab is a stage of three hosts.
func inLab(l *lab.Lab, opts Options) *processStage {
	return &processStage{client: l.Client(), gateway: l.Gateway(), server: l.Server(), opts: opts}
}

// here is a stage on this machine alone.
func here(opts Options) *processStage {
	return &processStage{client: thisMachine{}, gateway: thisMachine{}, server: thisMachine{}, opts: opts}
}

// thisMachine is the host that this program runs on. It implements machine.
type thisMachine struct{}

func (thisMachine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (thisMachine) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

func (thisMachine) Start(cmd *exec.Cmd) error { return cmd.Start() }

func (s *processStage) clientHost() host { return s.client }
func (s *processStage) serverHost() host { return s.server }

// startServer implements stage. endServer ends the server.
func (s *processStage) startServer(ctx context.Context, address string) (w *witness, at string, err error) {
	cmd := self(append(slices.Clone(s.opts.Serve), address))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", fmt.Errorf("start the server: %w", err)
	}
	out, in := io.Pipe()
	log := &logWatch{}
	cmd.Stdout, cmd.Stderr = in, log
	p, err := startProcess(s.server, cmd, func() { _ = in.Close() })
	if err != nil {
		return nil, "", fmt.Errorf("start the server: %w", err)
	}
	s.serving.process, s.serving.stdin, s.serving.witness = p, stdin, newWitness(out)
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it is not ready within %s", startLimit))
	defer cancel()
	if at, err = s.serving.witness.next(ctx, ready); err != nil {
		return nil, "", fmt.Errorf("start the server: %w%s", err, log.quote())
	}
	return s.serving.witness, at, nil
}

// startGateway implements stage: it runs `ftpgate forward` with these arguments, and waits until
// it says that the kernel has the rules.
func (s *processStage) startGateway(ctx context.Context, args []string) (stop func() error, err error) {
	cmd := self(append(slices.Clone(s.opts.Forward), args...))
	log := &logWatch{ready: make(chan struct{})}
	cmd.Stderr = log
	p, err := startProcess(s.gateway, cmd, func() {})
	if err != nil {
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it is not ready within %s", startLimit))
	defer cancel()
	select {
	case <-log.ready:
	case <-p.ended:
		return nil, fmt.Errorf("the gateway cannot start (%s):%s", p.outcome(), log.quote())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("start the gateway: %w%s", context.Cause(ctx), log.quote()), p.kill())
	}
	return func() error {
		err := p.stop(func() error { return p.cmd.Process.Signal(syscall.SIGINT) })
		if err == nil && p.err != nil {
			err = fmt.Errorf("%w:%s", p.err, log.quote())
		}
		if err != nil {
			return fmt.Errorf("stop the gateway: %w", err)
		}
		return nil
	}, nil
}

// endServer ends the server, if there is one.
func (s *processStage) endServer() error {
	srv := s.serving
	if srv.process == nil {
		return nil
	}
	err := srv.stop(srv.stdin.Close)
	srv.witness.close()
	if err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	return nil
}
