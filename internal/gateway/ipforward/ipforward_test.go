package ipforward

import (
	"net/netip"
	"testing"

	"ftpgate/internal/core/forward"
)

func TestNeeded(t *testing.T) {
	six := netip.MustParseAddr("2001:db8::21")
	relay := forward.Forward{Data: forward.DataRelay}
	for name, tt := range map[string]struct {
		forwards    []forward.Resolved
		any, overV6 bool
	}{
		"none":          {},
		"the relay's":   {[]forward.Resolved{{Forward: relay, Server6: six}}, false, false},
		"IPv4":          {[]forward.Resolved{{Forward: relay}, {}}, true, false},
		"IPv6":          {[]forward.Resolved{{Server6: six}}, true, true},
		"IPv6 by relay": {[]forward.Resolved{{}, {Forward: relay, Server6: six}}, true, false},
	} {
		if any, over6 := Needed(tt.forwards), needs6(tt.forwards); any != tt.any || over6 != tt.overV6 {
			t.Errorf("%s: got %t, over IPv6 %t; want %t, %t", name, any, over6, tt.any, tt.overV6)
		}
	}
}
