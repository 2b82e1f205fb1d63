package nft_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/try/lab/labtest"
)

// banning returns the table of a forward that refuses whom the list bans.
func banning(l *ban.List) ruleset.Table {
	forwards := rulesettest.Cases()[8].Forwards
	return ruleset.Build("ftpgate", forwards).Banning(l.Ranges(), forwards)
}

// Bans that overlap, come and go in any order are in the kernel as they are wanted, and leave the pinholes
// alone. An element ends a little later than its ban.
func TestBans(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	random := rand.New(rand.NewPCG(14, 8))
	var l ban.List
	nfttest.Apply(t, c, banning(&l))
	const pinhole = `192.168.5.1 . 192.168.5.2 . 50000`
	nfttest.Run(t, h, "add element inet ftpgate pinhole4 { "+pinhole+" : 203.0.113.21 . 40000 }")
	l.Deny([]netip.Prefix{netip.MustParsePrefix("255.255.255.0/24"), netip.MustParsePrefix("ff00::/8")})
	for i := range 100 {
		p, _ := netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(256))}).Prefix(26 + random.IntN(7))
		if i%3 == 2 {
			p, _ = netip.AddrFrom16([16]byte{0x20, 1, 15: byte(random.IntN(256))}).Prefix(121 +
				random.IntN(8))
		}
		if bans := l.Bans(); i%4 == 3 {
			if _, err := l.Remove(bans[random.IntN(len(bans))].Prefix); err != nil {
				t.Fatal(err)
			}
		} else if err := l.Add(ban.Ban{Prefix: p, Until: untilOf(random.IntN(3))}); err != nil {
			t.Fatal(err)
		}
		table := banning(&l)
		nfttest.Apply(t, c, table)
		if found, err := c.Compare(table); err != nil || len(found) > 0 {
			t.Fatalf("change %d: got differences %q, error %v; want none: %v", i, found, err, l.Bans())
		}
	}
	listed := nfttest.List(t, h)
	if !strings.Contains(listed, pinhole) {
		t.Errorf("got a table that was replaced:\n%s", listed)
	}
	if !strings.Contains(listed, "expires 1h") || !strings.Contains(listed, "255.255.255.0/24") {
		t.Errorf("got no bans for an hour, or no lasting ones:\n%s", listed)
	}
	nfttest.Run(t, h, "flush set inet ftpgate banned4; flush chain inet ftpgate bans")
	if got, _, err := c.Repair(banning(&l)); err != nil || len(got) == 0 {
		t.Errorf("got differences %q, error %v; want those of the flush", got, err)
	}
	if found, err := c.Compare(banning(&l)); err != nil || len(found) > 0 {
		t.Errorf("after the repair got differences %q, error %v; want none", found, err)
	}
	nfttest.Apply(t, c, banning(&ban.List{}))
	if listed := nfttest.List(t, h); strings.Contains(listed, "banned") || !strings.Contains(listed,
		pinhole) {
		t.Errorf("got without bans\n%s", listed)
	}
}

// A table with many banned clients that is gone is back in two parts: first what serves sessions, without the
// forwards whose clients only its rules refuse; then all of it, without disturbing the first.
func TestRepairInParts(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	var l ban.List
	var denied []netip.Prefix
	for i := range 11_000 { // each a range of its own, for several transactions
		denied = append(denied, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i >> 7),
			byte(i << 1)}),
			32))
	}
	l.Deny(append(denied, netip.MustParsePrefix("2001:db8::/64")))
	table := banning(&l)
	nfttest.Apply(t, c, table)
	for _, between := range []func(){
		func() {},
		func() { // somebody is banned before the rest is there
			if err := l.Add(ban.Ban{Prefix: netip.MustParsePrefix("192.0.2.7/32")}); err != nil {
				t.Fatal(err)
			}
			table = banning(&l)
			nfttest.Apply(t, c, table)
		},
		func() { nfttest.Run(t, h, "flush ruleset") },
	} {
		nfttest.Run(t, h, "flush ruleset")
		if _, more, err := c.Repair(table); err != nil || !more {
			t.Fatalf("got more %t, error %v; want more to come", more, err)
		}
		const hole = "192.168.5.1 . 192.168.5.2 . 50000"
		nfttest.Run(t, h, "add element inet ftpgate pinhole4 { "+hole+" : 203.0.113.21 . 40000 }")
		if got := nfttest.List(t, h); strings.Contains(got, "100.64.") ||
			strings.Contains(got, "192.168.5.2 . 2122 : ") {
			t.Errorf("got at first\n%s\nwant no banned clients, and no forward of tracking kernel", got)
		}
		between()
		for more := true; more; {
			var err error
			if _, more, err = c.Repair(table); err != nil {
				t.Fatal(err)
			}
		}
		if found, err := c.Compare(table); err != nil || len(found) > 0 {
			t.Errorf("got differences %q, error %v; want none", found, err)
		}
		if !strings.Contains(nfttest.List(t, h), "192.168.5.2 . 2122 : ") {
			t.Error("got no forward of tracking kernel; want it when the banned clients are refused")
		}
	}
}

// untilOf returns when a ban ends: never, in an hour, or in two.
func untilOf(hours int) time.Time {
	if hours == 0 {
		return time.Time{}
	}
	return time.Now().UTC().Truncate(time.Hour).Add(time.Duration(hours+1) * time.Hour)
}

// One more ban beside ten thousand, and beside fifty thousand denied addresses.
func BenchmarkBan(b *testing.B) {
	for name, denied := range map[string]int{"alone": 0, "denied-50000": ban.MaxDenied} {
		b.Run(name, func(b *testing.B) {
			c := nfttest.Open(b, labtest.Host(b))
			var l ban.List
			for i := range ban.MaxBans - 1 {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 32)
				if err := l.Add(ban.Ban{Prefix: p}); err != nil {
					b.Fatal(err)
				}
			}
			prefixes := make([]netip.Prefix, denied)
			for i := range prefixes {
				prefixes[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 15), byte(i >> 7),
					byte(i << 1)}), 32)
			}
			l.Deny(prefixes)
			began := time.Now()
			nfttest.Apply(b, c, banning(&l))
			b.Log(fmt.Sprint("all at once: ", time.Since(began)))
			one := netip.MustParsePrefix("192.0.2.7/32")
			for i := 0; b.Loop(); i++ {
				if i%2 == 1 {
					if _, err := l.Remove(one); err != nil {
						b.Fatal(err)
					}
				} else if err := l.Add(ban.Ban{Prefix: one}); err != nil {
					b.Fatal(err)
				}
				nfttest.Apply(b, c, banning(&l))
			}
		})
	}
}
