package ban

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// at returns a time so many seconds after noon; zero for 0: never.
func at(seconds int) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return noon.Add(time.Duration(seconds) * time.Second)
}

// listOf returns a list of bans "PREFIX SECONDS", and of denied prefixes "PREFIX".
func listOf(t *testing.T, texts ...string) *List {
	t.Helper()
	var l List
	var denied []netip.Prefix
	for _, text := range texts {
		prefix, seconds, isBan := strings.Cut(text, " ")
		p, err := ParseDenied(prefix)
		if err != nil {
			t.Fatal(err)
		}
		if !isBan {
			denied = append(denied, p)
			continue
		}
		n := 0
		fmt.Sscan(seconds, &n)
		if err := l.Add(Ban{Prefix: p, Since: noon, Until: at(n)}); err != nil {
			t.Fatal(err)
		}
	}
	l.Deny(denied)
	return &l
}

func (r Ranges) text() (texts []string) {
	for _, x := range r {
		until := "ever"
		if !x.Until.IsZero() {
			until = fmt.Sprint(int(x.Until.Sub(noon).Seconds()))
		}
		texts = append(texts, fmt.Sprintf("%s-%s %s", x.First, x.Last, until))
	}
	return texts
}

// Ranges are disjoint; of overlapping bans the one counts that ends last.
func TestRanges(t *testing.T) {
	for _, test := range []struct{ list, want []string }{
		{nil, nil},
		{[]string{"192.0.2.7"}, []string{"192.0.2.7-192.0.2.7 ever"}},
		{[]string{"192.0.2.7 5", "2001:db8::/32 6"},
			[]string{"192.0.2.7-192.0.2.7 5", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 6"}},
		{[]string{"192.0.2.0/24 9", "192.0.2.7 5"}, []string{"192.0.2.0-192.0.2.255 9"}},
		{[]string{"192.0.2.0/24 5", "192.0.2.7 9"},
			[]string{"192.0.2.0-192.0.2.6 5", "192.0.2.7-192.0.2.7 9", "192.0.2.8-192.0.2.255 5"}},
		{[]string{"192.0.2.0/24 5", "192.0.2.0 9", "192.0.2.255"},
			[]string{"192.0.2.0-192.0.2.0 9", "192.0.2.1-192.0.2.254 5", "192.0.2.255-192.0.2.255 ever"}},
		{[]string{"192.0.2.0/24 5", "192.0.2.64/26 7", "192.0.2.66 9", "192.0.2.67 6"},
			[]string{"192.0.2.0-192.0.2.63 5", "192.0.2.64-192.0.2.65 7", "192.0.2.66-192.0.2.66 9",
				"192.0.2.67-192.0.2.127 7", "192.0.2.128-192.0.2.255 5"}},
		{[]string{"192.0.2.7 5", "192.0.2.7"}, []string{"192.0.2.7-192.0.2.7 ever"}},
		{[]string{"192.0.2.6", "192.0.2.7", "192.0.2.8 3"},
			[]string{"192.0.2.6-192.0.2.7 ever", "192.0.2.8-192.0.2.8 3"}},
		{[]string{"255.255.255.0/24 5", "255.255.255.255 9", "::/8"},
			[]string{"255.255.255.0-255.255.255.254 5", "255.255.255.255-255.255.255.255 9",
				"::-ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ever"}},
		{[]string{"::ffff:192.0.2.7"}, []string{"192.0.2.7-192.0.2.7 ever"}},
	} {
		if got := listOf(t, test.list...).Ranges().text(); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q; want %q", test.list, got, test.want)
		}
	}
}

// Ranges ban exactly whom the list bans, whatever overlaps.
func TestRangesAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 14))
	for range 200 {
		var texts []string
		for range random.IntN(20) {
			p, _ := netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(256))}).Prefix(24 + random.IntN(9))
			texts = append(texts, fmt.Sprintf("%s %d", p, random.IntN(4)))
		}
		l := listOf(t, texts...)
		ranges := l.Ranges()
		for i := range 256 {
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
			for second := range 4 {
				now := at(second).Add(time.Millisecond)
				want := slices.ContainsFunc(l.Bans(), func(b Ban) bool {
					return b.Prefix.Contains(addr) && (b.Until.IsZero() || now.Before(b.Until))
				})
				if got := ranges.Refuses(addr, now); got != want {
					t.Fatalf("%q: %s after %d s: got %t; want %t", texts, addr, second, got, want)
				}
			}
		}
	}
}

// A packet's IPv4 address may come as one of IPv6, and an address of a link with its zone.
func TestRefuses(t *testing.T) {
	ranges := listOf(t, "192.0.2.0/24 5", "fe80::7").Ranges()
	for text, want := range map[string]bool{"192.0.2.0": true, "::ffff:192.0.2.255": true,
		"192.0.1.255": false,
		"192.0.3.0":   false, "fe80::7%eth0": true, "fe80::8": false, "::": false, "0.0.0.0": false} {
		if got := ranges.Refuses(netip.MustParseAddr(text), at(4)); got != want {
			t.Errorf("%s: got %t; want %t", text, got, want)
		}
	}
	if ranges.Refuses(netip.MustParseAddr("192.0.2.0"), at(5)) {
		t.Error("got a ban whose time is over; want none")
	}
}

// What is a typing mistake is refused, and changes nothing.
func TestAdd(t *testing.T) {
	l := listOf(t, "192.0.2.7 5")
	for _, text := range []string{"0.0.0.0/0", "::/0", "0.0.0.0/7", "2000::/15", "127.0.0.1/32",
		"127.0.0.0/8",
		"126.0.0.0/7", "::1/128", "0.0.0.0/32", "::/128"} {
		if err := l.Add(Ban{Prefix: netip.MustParsePrefix(text)}); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: got error %v; want %v", text, err, ErrUnfit)
		}
	}
	for i := range MaxBans - 1 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
		if err := l.Add(Ban{Prefix: p}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Add(Ban{Prefix: netip.MustParsePrefix("192.0.2.8/32")}); !errors.Is(err, ErrTooMany) {
		t.Errorf("got error %v; want %v", err, ErrTooMany)
	}
	if err := l.Add(Ban{Prefix: netip.MustParsePrefix("192.0.2.7/32"), Reason: "again"}); err != nil {
		t.Errorf("another ban of the same address: %v", err)
	}
	if len(l.Bans()) != MaxBans {
		t.Errorf("got %d bans; want %d", len(l.Bans()), MaxBans)
	}
}

// Who is not banned in so many words gets told what bans them.
func TestRemove(t *testing.T) {
	l := listOf(t, "192.0.2.0/24 5", "198.51.100.7 5", "203.0.113.0/24")
	for text, want := range map[string]string{
		"192.0.2.7/32":    "192.0.2.7 itself is not banned, but 192.0.2.0/24 is",
		"192.0.0.0/16":    "192.0.0.0/16 is not banned",
		"203.0.113.9/32":  "203.0.113.9 is not banned: deny in the file has 203.0.113.0/24",
		"198.51.100.8/32": "198.51.100.8 is not banned",
	} {
		if _, err := l.Remove(netip.MustParsePrefix(text)); !errors.Is(err, ErrNotBanned) ||
			err.Error() != want {
			t.Errorf("%s: got error %v; want %s", text, err, want)
		}
	}
	copied := l.Clone()
	if _, err := l.Remove(netip.MustParsePrefix("198.51.100.7/32")); err != nil || len(l.Bans()) != 1 {
		t.Errorf("got error %v, %d bans; want one left", err, len(l.Bans()))
	}
	if len(copied.Bans()) != 2 {
		t.Errorf("got %d bans of the copy; want 2", len(copied.Bans()))
	}
}

func TestExpire(t *testing.T) {
	l := listOf(t, "192.0.2.1 1", "192.0.2.2 2", "192.0.2.3 3", "192.0.2.4 0")
	over, next := l.Expire(at(2))
	if len(over) != 2 || over[0].Name() != "192.0.2.1" || !next.Equal(at(3)) || len(l.Bans()) != 2 {
		t.Errorf("got %v, next %s, left %v; want the first two, and the third next", over, next, l.Bans())
	}
	if over, next = l.Expire(at(3)); len(over) != 1 || !next.IsZero() {
		t.Errorf("got %v, next %s; want the third, and no other", over, next)
	}
}

// A file is used as a whole or not at all. Its first fault has its line.
func TestParseFile(t *testing.T) {
	text := "# comment\r\n\r\n192.0.2.7\r\n 2001:db8::/32 ; SBL1\n::ffff:198.51.100.0/120#x\n10.0.0.0/8"
	got, err := ParseFile(text)
	if want := "[192.0.2.7/32 2001:db8::/32 198.51.100.0/24 10.0.0.0/8]"; err != nil ||
		fmt.Sprint(got) != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
	for text, want := range map[string]string{
		"192.0.2.7\n\n192.0.2.300\n":       `line 3: client "192.0.2.300": `,
		"192.0.2.7/24":                     `line 1: client "192.0.2.7/24": the address has bits behind /24`,
		"0.0.0.0/0":                        "line 1: 0.0.0.0/0 is every client",
		"::/0":                             "line 1: ::/0 is every client",
		"192.0.2.7 192.0.2.8":              "line 1: ",
		strings.Repeat("\x00", 5000):       `line 1: "\x00`,
		strings.Repeat("1.2.3.4\n", 50001): "line 50001: it has more than 50000",
	} {
		got, err := ParseFile(text)
		if err == nil || !strings.HasPrefix(err.Error(), want) || got != nil {
			t.Errorf("%.40q: got %v, %v; want %s", text, got, err, want)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%.40q: got an error of %d bytes", text, len(err.Error()))
		}
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add("192.0.2.7\n# x\n2001:db8::/32")
	f.Fuzz(func(t *testing.T, text string) {
		denied, err := ParseFile(text)
		if err != nil {
			return
		}
		var l List
		l.Deny(denied)
		ranges := l.Ranges()
		for i, r := range ranges {
			if r.Last.Less(r.First) || i > 0 && !ranges[i-1].Last.Less(r.First) {
				t.Errorf("%q: got the ranges %q", text, ranges.text())
			}
		}
	})
}
