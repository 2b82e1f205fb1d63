package ftp

import (
	"fmt"
	"net/netip"
	"testing"
)

// quote quotes an input as the parsers do in errors.
func quote(s string) string { return fmt.Sprintf("%q", s) }

// roundTrip checks that a codec can write what it reads, and reads that as the same value. With an error it
// returns the zero value.
func roundTrip[T comparable](f *testing.F, parse func([]byte) (T, error), write func([]byte, T) []byte,
	sound func(T) bool) {
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := parse(in)
		if err != nil {
			var zero T
			if got != zero {
				t.Errorf("%q: got %v with an error; want nothing", in, got)
			}
			return
		}
		if !sound(got) {
			t.Errorf("%q: got %v, which no connection can go to", in, got)
		}
		text := write(nil, got)
		if again, err := parse(text); err != nil || again != got {
			t.Errorf("%q: got %v, written %q, read again %v, %v", in, got, text, again, err)
		}
	})
}

// canDial reports whether an address and port are valid.
func canDial(ap netip.AddrPort) bool {
	return ap.IsValid() && ap.Port() != 0 && ap.Addr().Zone() == "" && !ap.Addr().Is4In6()
}

func FuzzHostPort(f *testing.F) {
	for _, tt := range hostPortTests {
		f.Add([]byte(tt.in))
	}
	for _, tt := range looseHostPorts {
		f.Add([]byte(tt.in))
	}
	for _, tt := range badHostPorts {
		f.Add([]byte(tt.in))
	}
	roundTrip(f, ParseHostPort, AppendHostPort, canDial)
}

func Fuzz227(f *testing.F) {
	for _, tt := range texts227 {
		f.Add([]byte(tt.in))
	}
	for _, tt := range bad227 {
		f.Add([]byte(tt.in))
	}
	roundTrip(f, Parse227, Append227, canDial)
}

func FuzzEPRT(f *testing.F) {
	for _, tt := range goodEPRT {
		f.Add([]byte(tt.in))
	}
	for _, tt := range badEPRT {
		f.Add([]byte(tt.in))
	}
	roundTrip(f, ParseEPRT, AppendEPRT, canDial)
}

func Fuzz229(f *testing.F) {
	for _, tt := range good229 {
		f.Add([]byte(tt.in))
	}
	for _, tt := range bad229 {
		f.Add([]byte(tt.in))
	}
	roundTrip(f, Parse229, Append229, func(port uint16) bool { return port != 0 })
}

func FuzzEPSV(f *testing.F) {
	f.Add([]byte("ALL"))
	roundTrip(f, ParseEPSV, func(dst []byte, e EPSV) []byte { return e.AppendTo(dst) },
		func(e EPSV) bool { return e <= EPSVAll })
}
