package main

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// sealedOrigin is an origin on the loopback interface that speaks nothing but TLS.
func sealedOrigin(t *testing.T) request {
	t.Helper()
	with, err := newSeal(t.TempDir(), netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	o, err := newOrigin()
	if err != nil {
		t.Fatal(err)
	}
	if o.tls, err = with.forOrigin(); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { o.serve(l) })
	t.Cleanup(func() {
		l.Close()
		o.hangUp()
		serving.Wait()
		o.large.Close()
	})
	return request{Server: l.Addr().(*net.TCPAddr).AddrPort(), Seal: with}
}

// What is measured as TLS cannot have been anything else: the origin refuses the rest.
func TestSealed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*testing.T, *request)
		alter func(*session) // after the login
		want  string         // empty: the files arrive
	}{
		{name: "whole"},
		{name: "in clear", spoil: func(_ *testing.T, q *request) { q.Seal = "" }, want: "530 AUTH TLS first"},
		{name: "data in clear", alter: func(s *session) { _, _ = s.do("PROT C", 200) }, want: "522 PROT P first"},
		{name: "no resumption", alter: func(s *session) { s.tls.ClientSessionCache = nil }, want: errNoResumption.Error()},
		{name: "another authority", spoil: func(t *testing.T, q *request) {
			other, err := newSeal(t.TempDir(), q.Server.Addr())
			if err != nil {
				t.Fatal(err)
			}
			q.Seal = other
		}, want: "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := sealedOrigin(t)
			if tt.spoil != nil {
				tt.spoil(t, &q)
			}
			err := fetch(q, tt.alter)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

// fetch is a session with a file of each kind.
func fetch(q request, alter func(*session)) error {
	s, err := q.login()
	if err != nil {
		return err
	}
	defer s.conn.Close()
	if alter != nil {
		alter(s)
	}
	buf := make([]byte, 64<<10)
	for _, name := range []string{smallName, largeStart + "2", smallName} {
		if err := s.retrieve(name, buf); err != nil {
			return err
		}
	}
	return s.quit()
}
