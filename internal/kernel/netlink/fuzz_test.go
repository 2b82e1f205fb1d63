package netlink

import (
	"bytes"
	"testing"

	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// No input makes a reader panic or read beyond the input's end. What is read and written again is read the
// same, and mdlayher's decoder agrees wherever it accepts the list.
func FuzzAttributes(f *testing.F) {
	var b Buffer
	b.Uint32(1, 11)
	outer := b.BeginNested(2)
	b.Text(3, "ftp")
	b.Uint8(4, 9)
	b.EndAttr(outer)
	f.Add([]byte(b))
	f.Add([]byte(b[:len(b)-5]))
	f.Add([]byte{0, 0, 1, 0, 255, 255, 1, 0})
	f.Fuzz(func(t *testing.T, list []byte) {
		list = bytes.Clone(list)[:len(list):len(list)]
		var again Buffer
		count := 0
		for typ, value := range Attributes(list) {
			count++
			again.Bytes(typ, value)
			Find(value, typ, typ)
			Uint32(value)
			Uint64(value)
			Text(value)
		}
		if got := Rewrite(again, 1<<14, nil); !bytes.Equal(got, again) {
			t.Errorf("got %x; want what was written, %x", got, again)
		}
		d, err := mdlayher.NewAttributeDecoder(again)
		if err != nil {
			t.Fatalf("mdlayher cannot read %x: %v", again, err)
		}
		for typ, value := range Attributes(list) {
			if !d.Next() || d.Type() != typ || !bytes.Equal(d.Bytes(), value) {
				t.Fatalf("mdlayher reads attribute %d, %x; want %d, %x (%v)", d.Type(), d.Bytes(), typ, value,
					d.Err())
			}
		}
		if d.Len() != count || d.Next() {
			t.Errorf("mdlayher reads %d attributes; want %d", d.Len(), count)
		}
	})
}

// No datagram makes Messages panic, and its messages can be put together again.
func FuzzMessages(f *testing.F) {
	var b Buffer
	for range 2 {
		start := b.BeginNetfilter(Header{Type: 5, Sequence: 1}, unix.AF_INET, 7)
		b.Uint32(1, 11)
		b.EndMessage(start)
	}
	f.Add([]byte(b))
	f.Add([]byte(b[:len(b)-1]))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var again Buffer
		var headers []Header
		for h, body := range Messages(datagram) {
			ErrorNumber(body)
			start := again.BeginMessage(h)
			again = append(again, body...)
			again.EndMessage(start)
			again = Pad(again)
			headers = append(headers, h)
		}
		i := 0
		for h := range Messages(again) {
			if i == len(headers) || h != headers[i] {
				t.Fatalf("message %d: got %+v; want one of %+v", i, h, headers)
			}
			i++
		}
		if i != len(headers) {
			t.Errorf("got %d messages; want %d", i, len(headers))
		}
	})
}
