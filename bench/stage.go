package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"ftpgate/internal/lab"
)

// stage is the lab of one contestant, with the processes in it. All stages have the same shape.
type stage struct {
	contestant
	lab     *lab.Lab
	origin  *process
	gateway *process // nil: the contestant is rules alone
	load    *process
	dir     string // what the gateway's process keeps; empty: nothing
	seal    seal

	to   *json.Encoder // requests to the load
	from *json.Decoder // its answers
}

// newStage makes a lab for a contestant and starts what belongs into it; close ends it.
func newStage(ctx context.Context, c contestant, with tools, extra ...string) (*stage, error) {
	l, err := lab.New()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s := &stage{contestant: c, lab: l, seal: with.seal}
	for _, step := range []func() error{
		s.tune,
		func() error { return s.startOrigin(ctx) },
		func() error { return c.settle(ctx, s, with, extra) },
		s.tuneTracking,
		s.startLoad,
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// tune keeps TIME_WAIT from using up the ports: thousands of connections a second go between the
// same two addresses, and whoever came last would be measured without ports.
func (s *stage) tune() error {
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

// tuneTracking does the same for the gateway's connection tracking, if it has any: with the
// contestant's rules the kernel may just have loaded it.
func (s *stage) tuneTracking() error {
	for _, state := range []string{"time_wait", "close"} {
		err := s.lab.Gateway().WriteSysctl("net.netfilter.nf_conntrack_tcp_timeout_"+state, "1")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bench: %w", err)
		}
	}
	return nil
}

func (s *stage) startOrigin(ctx context.Context) error {
	args := []string{originAt.String()}
	if s.server {
		args = append(args, string(s.seal))
	}
	cmd := as("origin", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("bench: origin: %w", err)
	}
	if s.origin, err = launch(s.lab.Server(), "the origin", cmd, readyText, in.Close); err != nil {
		return err
	}
	return s.origin.ready(ctx)
}

func (s *stage) startLoad() error {
	cmd := as("load")
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("bench: load: %w", err)
	}
	answers, out := io.Pipe()
	cmd.Stdout = out
	if s.load, err = launch(s.lab.Client(), "the load", cmd, readyText, in.Close); err != nil {
		return err
	}
	go func() { // ends with the load, for which close waits
		<-s.load.ended
		out.Close()
	}()
	s.to, s.from = json.NewEncoder(in), json.NewDecoder(answers)
	return nil
}

// close ends the processes, and with them the namespaces.
func (s *stage) close() error {
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

// do has the load run one request. Where ctx ends first, so does the load.
func (s *stage) do(ctx context.Context, q request) (answer, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.load.cmd.Process.Kill() }) // it may just have ended
	defer stop()
	q.Server = s.dial()
	if s.client {
		q.Seal = s.seal
	}
	var a answer
	err := s.to.Encode(q)
	if err == nil {
		err = s.from.Decode(&a)
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return a, fmt.Errorf("bench: %s: %s: %w%s", s.name, q.Kind, err, s.logs())
	}
	return a, nil
}

// logs is what the contestant's process has said, where it has said something.
func (s *stage) logs() string {
	if s.gateway == nil {
		return ""
	}
	return "\n" + s.gateway.log.text()
}
