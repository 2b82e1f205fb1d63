package ftp

import (
	"fmt"
	"net/netip"
	"strings"
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

// FuzzRewrite227 looks for a line in which a client could read another address than the one written.
func FuzzRewrite227(f *testing.F) {
	for _, tt := range rewritten227 {
		f.Add([]byte(tt.in))
	}
	at := netip.MustParseAddrPort("192.168.5.2:50000")
	f.Fuzz(func(t *testing.T, in []byte) {
		got, ok := Rewrite227(nil, in, at)
		if !ok {
			return
		}
		if again, err := Parse227(got); err != nil || again != at {
			t.Errorf("%q: written %q, read again %v, %v; want %s", in, got, again, err, at)
		}
		const numbers = "192,168,5,2,195,80"
		others := strings.Replace(string(got), numbers, "", 1)
		if len(others) != len(got)-len(numbers) || strings.ContainsAny(others, "0123456789") {
			t.Errorf("%q: written %q, with other numbers", in, got)
		}
	})
}

// FuzzRewrite229 looks for a line in which a client could read another port than the one written.
func FuzzRewrite229(f *testing.F) {
	for _, tt := range rewritten229 {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, ok := Rewrite229(nil, in, 50_000)
		if !ok {
			return
		}
		if again, err := Parse229(got); err != nil || again != 50_000 {
			t.Errorf("%q: written %q, read again %d, %v; want 50000", in, got, again, err)
		}
		others := strings.Replace(string(got), "(|||50000|)", "", 1)
		if strings.ContainsAny(others, "0123456789(|)") {
			t.Errorf("%q: written %q, with other numbers", in, got)
		}
	})
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
	arguments := [...]string{EPSVAny: "", EPSVIPv4: "1", EPSVIPv6: "2", EPSVAll: "ALL"}
	roundTrip(f, ParseEPSV, func(dst []byte, e EPSV) []byte { return append(dst, arguments[e]...) },
		func(e EPSV) bool { return e <= EPSVAll })
}
