package forward

import (
	"net/netip"
	"testing"
)

// A client is an address of IPv4, or a network of IPv6.
func TestClientOf(t *testing.T) {
	for _, tt := range []struct {
		bits       int
		addr, want string
	}{
		{0, "192.0.2.1", "192.0.2.1/32"},
		{8, "192.0.2.1", "192.0.2.1/32"},
		{0, "::ffff:192.0.2.1", "192.0.2.1/32"},
		{0, "2001:db8::1:2:3:4", "2001:db8::/64"},
		{56, "2001:db8:0:1ff::1", "2001:db8:0:100::/56"},
		{128, "2001:db8::1", "2001:db8::1/128"},
		{0, "fe80::1%eth0", "fe80::/64"},
	} {
		got := Limits{IPv6Prefix: tt.bits}.ClientOf(netip.MustParseAddr(tt.addr))
		if got.String() != tt.want {
			t.Errorf("%s with %d bits: got %s; want %s", tt.addr, tt.bits, got, tt.want)
		}
	}
}
