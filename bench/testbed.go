package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"ftpgate/internal/try/lab"
)

// testbed is the lab of one contestant with its processes. All have the same shape.
type testbed struct {
	contestant
	lab     *lab.Lab
	origin  *process
	gateway *process // nil: the contestant is only rules or routes
	load    *process
	dir     string // files of the gateway's process; empty: none
	certs   certDir

	requests *json.Encoder // to the load
	answers  *json.Decoder // from the load
}

// newTestbed makes a lab for a contestant and starts its processes. The caller closes it.
func newTestbed(ctx context.Context, c contestant, with tools, extra ...string) (*testbed, error) {
	l, err := lab.New()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s := &testbed{contestant: c, lab: l, certs: with.certs}
	for _, step := range []func() error{
		s.tune,
		func() error { return s.startOrigin(ctx) },
		func() error { return c.setUp(ctx, s, with, extra) },
		s.tuneConntrack,
		s.startLoad,
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// tune keeps TIME_WAIT from using up the ports: thousands of connections a second are between the same two
// addresses, and the last contestant would have no free ports.
func (s *testbed) tune() error {
	for _, h := range []*lab.Host{s.lab.Client(), s.lab.Gateway(), s.lab.Server()} {
		for name, value := range map[string]string{
			"net.ipv4.ip_local_port_range": "10000 65535",
			"net.ipv4.tcp_max_tw_buckets":  "64",
		} {
			if err := h.WriteSysctl(name, value); err != nil {
				return fmt.Errorf("bench: %w", err)
			}
		}
	}
	return nil
}

// tuneConntrack does the same for connection tracking on the gateway, if the contestant's rules made the
// kernel load it.
func (s *testbed) tuneConntrack() error {
	for _, state := range []string{"time_wait", "close"} {
		err := s.lab.Gateway().WriteSysctl("net.netfilter.nf_conntrack_tcp_timeout_"+state, "1")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bench: %w", err)
		}
	}
	return nil
}

func (s *testbed) startOrigin(ctx context.Context) error {
	args := []string{originAddr.String()}
	if s.serverTLS {
		args = append(args, string(s.certs))
	}
	cmd := roleCommand("origin", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("bench: origin: %w", err)
	}
	if s.origin, err = startProcess(s.lab.Server(), "the origin", cmd, readyText, in.Close); err != nil {
		return err
	}
	return s.origin.waitReady(ctx)
}

func (s *testbed) startLoad() error {
	cmd := roleCommand("load")
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("bench: load: %w", err)
	}
	answers, out := io.Pipe()
	cmd.Stdout = out
	if s.load, err = startProcess(s.lab.Client(), "the load", cmd, readyText, in.Close); err != nil {
		return err
	}
	go func() { // ends with the load, which close waits for
		<-s.load.exited
		out.Close()
	}()
	s.requests, s.answers = json.NewEncoder(in), json.NewDecoder(answers)
	return nil
}

// close ends the processes and removes the lab.
func (s *testbed) close() error {
	var errs []error
	for _, p := range []*process{s.load, s.gateway, s.origin} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	errs = append(errs, s.lab.Close())
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// request sends one request to the load and returns its result. If ctx ends first, it kills the load.
func (s *testbed) request(ctx context.Context, q request) (result, error) {
	// An error of Kill means that the load has exited already.
	stop := context.AfterFunc(ctx, func() { _ = s.load.cmd.Process.Kill() })
	defer stop()
	q.Server = s.target()
	if s.clientTLS {
		q.Certs = s.certs
	}
	var a result
	err := s.requests.Encode(q)
	if err == nil {
		err = s.answers.Decode(&a)
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return a, fmt.Errorf("bench: %s: %s: %w%s", s.name, q.Kind, err, s.gatewayLog())
	}
	return a, nil
}

// gatewayLog returns the log of the contestant's process, if there is one.
func (s *testbed) gatewayLog() string {
	if s.gateway == nil {
		return ""
	}
	return "\n" + s.gateway.log.text()
}
