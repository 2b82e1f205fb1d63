package main

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// tlsOrigin is an origin on the loopback interface that requires TLS.
func tlsOrigin(t *testing.T) request {
	t.Helper()
	with, err := makeCerts(t.TempDir(), netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	o, err := newOrigin()
	if err != nil {
		t.Fatal(err)
	}
	if o.tls, err = with.serverConfig(); err != nil {
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
		o.closeConns()
		serving.Wait()
		o.large.Close()
	})
	return request{Server: l.Addr().(*net.TCPAddr).AddrPort(), Certs: with}
}

// The origin refuses everything without TLS, so that measures of TLS are sure to measure TLS.
func TestTLS(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*testing.T, *request)
		alter func(*session) // called after the login
		want  string         // in the error; empty: no error
	}{
		{name: "whole"},
		{name: "in clear", spoil: func(_ *testing.T, q *request) { q.Certs = "" },
			want: "530 AUTH TLS first"},
		{name: "data in clear", alter: func(s *session) { _, _ = s.do("PROT", "C", 200) },
			want: "522 PROT P first"},
		{name: "no resumption", alter: func(s *session) { s.tls.ClientSessionCache = nil },
			want: errNoResumption.Error()},
		{name: "another authority", spoil: func(t *testing.T, q *request) {
			other, err := makeCerts(t.TempDir(), q.Server.Addr())
			if err != nil {
				t.Fatal(err)
			}
			q.Certs = other
		}, want: "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := tlsOrigin(t)
			if tt.spoil != nil {
				tt.spoil(t, &q)
			}
			err := fetch(q, tt.alter)
			if tt.want == "" && err != nil ||
				tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

// fetch retrieves a file of each kind in one session.
func fetch(q request, alter func(*session)) error {
	s, err := q.login()
	if err != nil {
		return err
	}
	defer s.close()
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
