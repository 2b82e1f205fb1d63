package nftset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

var encodedHoles = []pinhole.Pinhole{
	{From: netip.MustParseAddr("192.168.5.1"), Listen: netip.MustParseAddrPort("192.168.5.2:50000"),
		Target: netip.MustParseAddrPort("203.0.113.21:40001"), SourceIP: netip.MustParseAddr("203.0.113.1")},
	{From: netip.MustParseAddr("2001:db8:5::1"), Listen: netip.MustParseAddrPort("[2001:db8:5::2]:50000"),
		Target:   netip.MustParseAddrPort("[2001:db8:113::21]:40001"),
		SourceIP: netip.MustParseAddr("2001:db8:113::1")},
}

// The messages are byte for byte those of the library, with two exceptions: the library sends the id of the
// set, for names that are not known yet; and its flags neither refuse an existing element nor leave out
// NLM_F_CREATE in a deletion.
func TestElementByLibrary(t *testing.T) {
	for _, p := range encodedHoles {
		for m := range pinholeMaps {
			h, body, set := encoded(m, p, unix.NFT_MSG_NEWSETELEM)
			want := byLibrary(t, m, p, true)
			if !bytes.Equal(body, want.Data) {
				t.Errorf("add to %s: got\n%x\nwant\n%x", set, body, want.Data)
			}
			flags := h.Flags &^ unix.NLM_F_EXCL
			if h.Type != uint16(want.Header.Type) || flags != uint16(want.Header.Flags) {
				t.Errorf("add to %s: got type %x, flags %x; want %x, %x",
					set, h.Type, flags, want.Header.Type, want.Header.Flags)
			}
			_, body, set = encoded(m, p, unix.NFT_MSG_DELSETELEM)
			if want = byLibrary(t, m, p, false); !bytes.Equal(body, want.Data) {
				t.Errorf("delete from %s: got\n%x\nwant\n%x", set, body, want.Data)
			}
		}
	}
}

// encoded returns the message with the element of a pinhole in one of its maps, and the name of that map.
func encoded(r role, p pinhole.Pinhole, operation uint16) (h netlink.Header, body []byte, set string) {
	c := newElementConn("ftpgate")
	c.encode(pinhole.Lifetime, []change{{operation, pinholeElement(r, &p)}})
	i := 0
	for header, b := range netlink.Messages(c.out) {
		if i++; i == 2 { // after NFNL_MSG_BATCH_BEGIN
			h, body = header, b
		}
	}
	return h, body, c.sets[0]
}

// libraryBatch captures what the library would send.
type libraryBatch struct {
	*nftables.Conn
	captured []mdlayher.Message
}

var errCaptured = errors.New("captured, not sent")

func newLibraryBatch(t testing.TB) *libraryBatch {
	b := &libraryBatch{}
	var err error
	b.Conn, err = nftables.New(nftables.WithTestDial(b.capture))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *libraryBatch) capture(req []mdlayher.Message) ([]mdlayher.Message, error) {
	b.captured = append(b.captured, req...)
	return nil, errCaptured
}

func (b *libraryBatch) flush(t testing.TB) {
	if err := b.Flush(); !errors.Is(err, errCaptured) {
		t.Fatal(err)
	}
}

// byLibrary encodes an element with the library, and removes the id of the set.
func byLibrary(t testing.TB, r role, p pinhole.Pinhole, add bool) mdlayher.Message {
	b := newLibraryBatch(t)
	b.queue(t, r, p, add)
	b.flush(t)
	m := b.captured[1]
	attributes := netlink.Buffer(bytes.Clone(m.Data[:netlink.NetfilterLen]))
	for list := m.Data[netlink.NetfilterLen:]; len(list) > 0; {
		length := netlink.Align(int(binary.NativeEndian.Uint16(list)))
		if binary.NativeEndian.Uint16(list[2:]) != unix.NFTA_SET_ELEM_LIST_SET_ID {
			attributes = append(attributes, list[:length]...)
		}
		list = list[length:]
	}
	m.Data = attributes
	return m
}

// queue queues the element of a pinhole in one of its maps.
func (b *libraryBatch) queue(t testing.TB, r role, p pinhole.Pinhole, add bool) {
	version, address := ruleset.IPv4, nftables.TypeIPAddr
	if p.From.Is6() {
		version, address = ruleset.IPv6, nftables.TypeIP6Addr
	}
	set := &nftables.Set{
		Table: &nftables.Table{Name: "ftpgate", Family: nftables.TableFamilyINet},
		IsMap: true, HasTimeout: true, Concatenation: true,
	}
	var element nftables.SetElement
	from, at, to := p.From.AsSlice(), p.Listen.Addr().AsSlice(), p.Target.Addr().AsSlice()
	switch r {
	case dnatMap: // ADDR . ADDR . PORT : ADDR . PORT
		set.Name = ruleset.PinholeMap(version).Name
		set.KeyType = nftables.MustConcatSetType(address, address, nftables.TypeInetService)
		set.DataType = nftables.MustConcatSetType(address, nftables.TypeInetService)
		element.Key = bytes.Join([][]byte{from, at, padded(p.Listen.Port())}, nil)
		element.Val = bytes.Join([][]byte{to, padded(p.Target.Port())}, nil)
	case snatMap: // ADDR . ADDR . ADDR . PORT : ADDR
		set.Name = ruleset.SourceMap(version).Name
		set.KeyType = nftables.MustConcatSetType(address, address, address, nftables.TypeInetService)
		set.DataType = address
		element.Key = bytes.Join([][]byte{from, at, to, padded(p.Target.Port())}, nil)
		element.Val = p.SourceIP.AsSlice()
	}
	var err error
	if add {
		element.Timeout = pinhole.Lifetime
		err = b.SetAddElements(set, []nftables.SetElement{element})
	} else {
		element.Val = nil
		err = b.SetDeleteElements(set, []nftables.SetElement{element})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// padded returns a port as it stands beside other fields.
func padded(port uint16) []byte { return []byte{byte(port >> 8), byte(port), 0, 0} }

// BenchmarkPinholeEncode and BenchmarkPinholeEncodeByLibrary show why the library does not write these
// messages.
func BenchmarkPinholeEncode(b *testing.B) {
	c := newElementConn("ftpgate")
	b.ReportAllocs()
	for b.Loop() {
		c.encode(pinhole.Lifetime, []change{
			{unix.NFT_MSG_NEWSETELEM, pinholeElement(dnatMap, &encodedHoles[0])},
			{unix.NFT_MSG_NEWSETELEM, pinholeElement(snatMap, &encodedHoles[0])},
		})
	}
}

func BenchmarkPinholeEncodeByLibrary(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		batch := newLibraryBatch(b)
		for m := range pinholeMaps {
			batch.queue(b, m, encodedHoles[0], true)
		}
		batch.flush(b)
	}
}
