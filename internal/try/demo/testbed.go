package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/demo/sessionlog"
	"ftpgate/internal/try/lab"
)

// machine is a host that can start programs.
type machine interface {
	scenario.Host
	Start(*exec.Cmd) error
}

// testbed runs a scenario with real processes. It implements scenario.Testbed.
type testbed struct {
	client, gateway, server machine
	opts                    Options
	// working directory of server and gateway, with their certificates, and the gateways' admin sockets; may
	// be empty: there are no sockets
	dir      string
	tap      func() (scenario.Tap, error)
	gateways int // how many have been started
}

// labTestbed returns a testbed of the lab's three hosts, with certificates in dir.
func labTestbed(l *lab.Lab, opts Options, dir string) *testbed {
	return &testbed{
		client: l.Client(), gateway: l.Gateway(), server: l.Server(), opts: opts, dir: dir,
		tap: func() (scenario.Tap, error) { return startTaps(l.Gateway()) },
	}
}

// localTestbed returns a testbed on this machine alone, without a wiretap.
func localTestbed(opts Options) *testbed {
	return &testbed{
		client: localHost{}, gateway: localHost{}, server: localHost{}, opts: opts,
		tap: func() (scenario.Tap, error) { return nil, errors.New("no wiretap outside of the lab") },
	}
}

// localHost is this machine. It implements machine.
type localHost struct{}

func (localHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (localHost) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

func (localHost) Start(cmd *exec.Cmd) error { return cmd.Start() }

func (b *testbed) ClientHost() scenario.Host { return b.client }
func (b *testbed) ServerHost() scenario.Host { return b.server }

// Tap implements scenario.Testbed.
func (b *testbed) Tap() (scenario.Tap, error) { return b.tap() }

// StartServer implements scenario.Testbed.
func (b *testbed) StartServer(
	ctx context.Context, address string, mode scenario.TLSMode,
) (scenario.Server, error) {
	cmd := ownCommand(append(slices.Clone(b.opts.ServeArgs), append(tlsFlags(mode), address)...))
	cmd.Dir = b.dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return scenario.Server{}, fmt.Errorf("start the server: %w", err)
	}
	out, in := io.Pipe()
	stderr := &logBuffer{}
	cmd.Stdout, cmd.Stderr = in, stderr
	p, err := startProcess(b.server, cmd, func() { _ = in.Close() })
	if err != nil {
		return scenario.Server{}, fmt.Errorf("start the server: %w", err)
	}
	serverLog := sessionlog.ReadServerLog(out)
	stop := func() error {
		defer serverLog.Close()
		return p.stop("the server", stdin.Close, stderr)
	}
	ctx, cancel := withStartTimeout(ctx)
	defer cancel()
	bound, err := serverLog.Next(ctx, sessionlog.Ready)
	if err != nil {
		_ = stop() // its log has the reason
		return scenario.Server{}, fmt.Errorf("start the server: %w%s", err, stderr.quote())
	}
	return scenario.Server{Log: serverLog, Address: bound, Stop: stop}, nil
}

// tlsFlags returns the flags of the server's command.
func tlsFlags(mode scenario.TLSMode) []string {
	if mode == scenario.TLSOff {
		return nil
	}
	flags := []string{"--tls-cert=" + serverFile, "--tls-key=" + serverKeyFile}
	if mode == scenario.TLSRequired {
		flags = append(flags, "--tls-only")
	}
	return flags
}

// StartGateway implements scenario.Testbed: it runs `ftpgate forward` with these arguments, and waits until
// its log says that it is ready: the kernel has the rules.
func (b *testbed) StartGateway(ctx context.Context, args []string) (scenario.Gateway, error) {
	all := slices.Clone(b.opts.ForwardArgs)
	if b.dir != "" {
		b.gateways++
		all = append(all, "--admin-socket", b.socket(b.gateways))
	}
	cmd := ownCommand(append(all, args...))
	cmd.Dir = b.dir
	log := &logBuffer{ready: make(chan struct{})}
	cmd.Stderr = log
	p, err := startProcess(b.gateway, cmd, func() {})
	if err != nil {
		return scenario.Gateway{}, fmt.Errorf("start the gateway: %w", err)
	}
	ctx, cancel := withStartTimeout(ctx)
	defer cancel()
	select {
	case <-log.ready:
	case <-p.ended:
		return scenario.Gateway{}, fmt.Errorf("the gateway cannot start (%s):%s", p.cmd.ProcessState,
			log.quote())
	case <-ctx.Done():
		err := fmt.Errorf("start the gateway: %w%s", context.Cause(ctx), log.quote())
		p.kill()
		return scenario.Gateway{}, err
	}
	stop := func() error {
		return p.stop("the gateway", func() error { return p.cmd.Process.Signal(syscall.SIGINT) }, log)
	}
	socket := b.socket(b.gateways)
	explain := func(ctx context.Context, session string) (string, error) {
		return b.explain(ctx, socket, session)
	}
	return scenario.Gateway{Stop: stop, Explain: explain}, nil
}

// socket returns the path of a gateway's admin socket.
func (b *testbed) socket(gateway int) string {
	return filepath.Join(b.dir, fmt.Sprintf("gateway%d.sock", gateway))
}

// explain runs `ftpgate explain`, and returns what it prints.
func (b *testbed) explain(ctx context.Context, socket, session string) (string, error) {
	cmd := ownCommand(append(slices.Clone(b.opts.ExplainArgs), "--socket", socket, session))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	p, err := startProcess(b.gateway, cmd, func() {})
	if err != nil {
		return "", err
	}
	ctx, cancel := withStartTimeout(ctx)
	defer cancel()
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.kill()
		return "", context.Cause(ctx)
	}
	if p.err != nil {
		return "", fmt.Errorf("%w: %s", p.err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out.String(), nil
}
