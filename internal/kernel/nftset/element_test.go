package nftset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/nft"
)

var encodedHoles = []pinhole.Pinhole{
	{From: netip.MustParseAddr("192.168.5.1"), Listen: netip.MustParseAddrPort("192.168.5.2:50000"),
		Target: netip.MustParseAddrPort("203.0.113.21:40001"), SourceIP: netip.MustParseAddr("203.0.113.1")},
	{From: netip.MustParseAddr("2001:db8:5::1"), Listen: netip.MustParseAddrPort("[2001:db8:5::2]:50000"),
		Target: netip.MustParseAddrPort("[2001:db8:113::21]:40001"), SourceIP: netip.MustParseAddr("2001:db8:113::1")},
}

// What is written by hand is what the library writes: byte for byte, but for the id of the set, which
// stands for a name that is not known yet, and the flags that refuse what is there and that create
// what is to be deleted.
func TestElementByLibrary(t *testing.T) {
	for _, hole := range encodedHoles {
		for k := range kinds {
			l := byHand(k, hole, unix.NFT_MSG_NEWSETELEM)
			got, want := messages(l.out)[1], byLibrary(t, k, hole, true)
			if !bytes.Equal(got[unix.SizeofNlMsghdr:], want.Data) {
				t.Errorf("add %s: got\n%x\nwant\n%x", l.asked, got[unix.SizeofNlMsghdr:], want.Data)
			}
			if typ, flags := binary.NativeEndian.Uint16(got[4:]), binary.NativeEndian.Uint16(got[6:])&^unix.NLM_F_EXCL; typ != uint16(want.Header.Type) || flags != uint16(want.Header.Flags) {
				t.Errorf("add %s: got type %x, flags %x; want %x, %x", l.asked, typ, flags, want.Header.Type, want.Header.Flags)
			}
			l = byHand(k, hole, unix.NFT_MSG_DELSETELEM)
			got, want = messages(l.out)[1], byLibrary(t, k, hole, false)
			if !bytes.Equal(got[unix.SizeofNlMsghdr:], want.Data) {
				t.Errorf("delete %s: got\n%x\nwant\n%x", l.asked, got[unix.SizeofNlMsghdr:], want.Data)
			}
		}
	}
}

type libMessage = struct {
	Header struct{ Type, Flags uint16 }
	Data   []byte
}

func byHand(k kind, hole pinhole.Pinhole, verb uint16) *line {
	l := newLine("ftpgate")
	l.encode(pinholeTime, []change{{verb, pinholeElement(k, hole)}})
	return l
}

// messages cuts what is sent into its messages.
func messages(b []byte) (all [][]byte) {
	for len(b) > 0 {
		n := binary.NativeEndian.Uint32(b)
		all, b = append(all, b[:n]), b[n:]
	}
	return all
}

// byLibrary encodes the same element with the library, and takes the id of the set out.
func byLibrary(t testing.TB, k kind, hole pinhole.Pinhole, add bool) (m libMessage) {
	b, err := nft.newBatch()
	if err != nil {
		t.Fatal(err)
	}
	queueByLibrary(b, k, hole, add)
	if err := b.enc.Flush(); !errors.Is(err, nft.errCaptured) {
		t.Fatal(err)
	}
	sent := b.sent[1]
	m.Header.Type, m.Header.Flags = uint16(sent.Header.Type), uint16(sent.Header.Flags)
	const header = 4 // struct nfgenmsg
	m.Data = bytes.Clone(sent.Data[:header])
	for list := sent.Data[header:]; len(list) > 0; list = list[nft.align(nft.attrLen(list)):] {
		if nft.attrType(list) != unix.NFTA_SET_ELEM_LIST_SET_ID {
			m.Data = append(m.Data, list[:nft.align(nft.attrLen(list))]...)
		}
	}
	return m
}

func queueByLibrary(b *nft.batch, k kind, hole pinhole.Pinhole, add bool) {
	v := ruleset.IPv4
	if hole.From.Is6() {
		v = ruleset.IPv6
	}
	s := [kinds]func(ruleset.Version) ruleset.Set{ruleset.PinholeMap, ruleset.SourceMap}[k](v)
	e := ruleset.Element{Server: hole.From, Listen: hole.Listen.Addr(), Ports: forward.PortRange{First: hole.Listen.Port()}}
	if e.To, e.ToPort = hole.Target.Addr(), hole.Target.Port(); k == seenAs {
		e.To, e.Ports.First = hole.SourceIP, hole.Target.Port()
	}
	lib := nft.libElement(s, e)
	if k == seenAs { // the row of a set has room for one address of the server: From and To are two
		to := hole.Target.Addr().AsSlice()
		copy(lib.Key[2*len(to):], to)
	}
	set := nft.libSet("ftpgate", s)
	if lib.Timeout = pinholeTime; add {
		b.check(b.enc.SetAddElements(set, []nftables.SetElement{lib}))
	} else {
		lib.Timeout, lib.Val = 0, nil
		b.check(b.enc.SetDeleteElements(set, []nftables.SetElement{lib}))
	}
}

// BenchmarkPinholeEncode and BenchmarkPinholeEncodeByLibrary tell why elements of pinholes are
// written by hand.
func BenchmarkPinholeEncode(b *testing.B) {
	l := newLine("ftpgate")
	b.ReportAllocs()
	for b.Loop() {
		l.encode(pinholeTime, []change{
			{unix.NFT_MSG_NEWSETELEM, pinholeElement(leadsTo, encodedHoles[0])}, {unix.NFT_MSG_NEWSETELEM, pinholeElement(seenAs, encodedHoles[0])}})
	}
}

func BenchmarkPinholeEncodeByLibrary(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		batch, err := nft.newBatch()
		if err != nil {
			b.Fatal(err)
		}
		for k := range kinds {
			queueByLibrary(batch, k, encodedHoles[0], true)
		}
		if err := batch.enc.Flush(); !errors.Is(err, nft.errCaptured) {
			b.Fatal(err)
		}
	}
}
