package proxyprotocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"ftpgate/internal/core/forward"
)

var (
	four = Header{Client: netip.MustParseAddrPort("198.51.100.9:40001"),
		Dialled: netip.MustParseAddrPort("192.0.2.1:21")}
	six = Header{Client: netip.MustParseAddrPort("[2001:db8::9]:40001"),
		Dialled: netip.MustParseAddrPort("[2001:db8::1]:21")}
)

// v2 returns a header of version 2 with these bytes behind the signature.
func v2(rest string) string {
	some, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(signatureV2) + string(some)
}

const (
	v4Addresses = "c6336409 c0000201 9c41 0015"
	v6Addresses = "20010db8000000000000000000000009 20010db8000000000000000000000001 9c41 0015"
)

// tlvs are additions like those of balancers: ALPN (01), a unique ID (05), NOOP (04), of 18 bytes.
const tlvs = "01 0003 667470" + "05 0004 00010203" + "04 0002 0000"

func TestRead(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want Header
	}{
		"v1":                   {"PROXY TCP4 198.51.100.9 192.0.2.1 40001 21\r\n", four},
		"v1, IPv6":             {"PROXY TCP6 2001:db8::9 2001:db8::1 40001 21\r\n", six},
		"v1, mapped":           {"PROXY TCP6 ::ffff:198.51.100.9 ::ffff:192.0.2.1 40001 21\r\n", four},
		"v1, its own":          {"PROXY UNKNOWN\r\n", Header{}},
		"v1, with words":       {"PROXY UNKNOWN 198.51.100.9 192.0.2.1 40001 21\r\n", Header{}},
		"v2":                   {v2("21 11 000c" + v4Addresses), four},
		"v2, IPv6":             {v2("21 21 0024" + v6Addresses), six},
		"v2, additions":        {v2("21 11 001e" + v4Addresses + tlvs), four},
		"v2, odd additions":    {v2("21 11 000f" + v4Addresses + "ffffff"), four},
		"v2, its own":          {v2("20 00 0000"), Header{}},
		"v2, with its address": {v2("20 11 000c" + v4Addresses), Header{}},
	} {
		behind := "USER anonymous\r\n"
		for how, read := range map[string]func(io.Reader) io.Reader{
			"": func(r io.Reader) io.Reader { return r }, ", by byte": iotest.OneByteReader,
			", error with data": iotest.DataErrReader,
		} {
			all := strings.NewReader(tt.text + behind)
			got, n, err := Read(read(all))
			if got != tt.want || err != nil || n != len(tt.text) {
				t.Errorf("%s%s: got %+v, %d bytes, %v; want %+v, %d", name, how, got, n, err, tt.want,
					len(tt.text))
			}
			if rest, _ := io.ReadAll(all); how == "" && string(rest) != behind {
				t.Errorf("%s: got %q behind the header; want %q", name, rest, behind)
			}
		}
	}
}

func TestReadBad(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		most int // bytes that are read
		want string
	}{
		"nothing":          {"", 0, ErrNone.Error()},
		"FTP":              {"USER anonymous\r\n", 15, errNoHeader.Error()},
		"TLS":              {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh", 15, errNoHeader.Error()},
		"another word":     {"PROXYING 1 2 3 4 5\r\n", 15, errNoHeader.Error()},
		"cut short":        {"PROXY TCP4 198.51", 17, "cut short"},
		"v2, cut short":    {v2("21 11 000c c633"), 18, "cut short"},
		"no end":           {"PROXY TCP4 " + strings.Repeat("1", 200), 107, errTooLong.Error()},
		"LF":               {"PROXY TCP4 198.51.100.9 192.0.2.1 40001 21\n", 107, "malformed"},
		"two lines":        {"PROXY A\r\nUSER anonymous\r\n", 107, "malformed"},
		"a port too high":  {"PROXY TCP4 198.51.100.9 192.0.2.1 65536 21\r\n", 107, "malformed"},
		"no address":       {"PROXY TCP4 localhost 192.0.2.1 40001 21\r\n", 107, "malformed"},
		"a zone":           {"PROXY TCP6 fe80::1%eth0 2001:db8::1 40001 21\r\n", 107, "malformed"},
		"another family":   {"PROXY TCP4 2001:db8::9 2001:db8::1 40001 21\r\n", 107, "malformed"},
		"unspecified":      {"PROXY TCP4 0.0.0.0 192.0.2.1 40001 21\r\n", 107, errUnusable.Error()},
		"multicast":        {"PROXY TCP6 ff02::1 2001:db8::1 40001 21\r\n", 107, errUnusable.Error()},
		"two families":     {"PROXY TCP6 ::ffff:1.2.3.4 2001:db8::1 40001 21\r\n", 107, errUnusable.Error()},
		"port 0":           {"PROXY TCP4 198.51.100.9 192.0.2.1 0 21\r\n", 107, errUnusable.Error()},
		"v2, 65535 bytes":  {v2("21 11 ffff") + strings.Repeat("a", 65535), 16, errTooLong.Error()},
		"v2, its own, big": {v2("20 00 ffff") + strings.Repeat("a", 65535), 16, errTooLong.Error()},
		"v2, UDP":          {v2("21 12 000c" + v4Addresses), 28, errNotTCP.Error()},
		"v2, unix":         {v2("21 31 00d8") + strings.Repeat("a", 216), 232, errNotTCP.Error()},
		"v2, no family":    {v2("21 00 0000"), 16, "malformed"},
		"v2, too short":    {v2("21 11 0004 c6336409"), 20, "malformed"},
		"v2, version 3":    {v2("31 11 000c" + v4Addresses), 28, "malformed"},
		"v2, a command":    {v2("22 11 000c" + v4Addresses), 28, "malformed"},
	} {
		got, n, err := Read(strings.NewReader(tt.text))
		if got != (Header{}) || err == nil || !strings.Contains(err.Error(), tt.want) || n > tt.most {
			t.Errorf("%s: got %+v, %d bytes, %v; want at most %d bytes and %q", name, got, n, err, tt.most,
				tt.want)
		}
	}
	broken := errors.New("broken")
	if _, n, err := Read(iotest.ErrReader(broken)); err != broken || n != 0 {
		t.Errorf("got %d bytes, %v; want %v", n, err, broken)
	}
}

func TestAppend(t *testing.T) {
	for name, tt := range map[string]struct {
		version forward.ProxyProtocol
		header  Header
		want    string
	}{
		"off":          {forward.ProxyProtocolOff, four, ""},
		"v1":           {forward.ProxyProtocolV1, four, "PROXY TCP4 198.51.100.9 192.0.2.1 40001 21\r\n"},
		"v1, IPv6":     {forward.ProxyProtocolV1, six, "PROXY TCP6 2001:db8::9 2001:db8::1 40001 21\r\n"},
		"v1, our own":  {forward.ProxyProtocolV1, Header{}, "PROXY UNKNOWN\r\n"},
		"v2":           {forward.ProxyProtocolV2, four, v2("21 11 000c" + v4Addresses)},
		"v2, IPv6":     {forward.ProxyProtocolV2, six, v2("21 21 0024" + v6Addresses)},
		"v2, our own":  {forward.ProxyProtocolV2, Header{}, v2("20 00 0000")},
		"no addresses": {forward.ProxyProtocolV2, Header{Client: four.Client}, v2("20 00 0000")},
	} {
		if got := Append([]byte("a"), tt.version, tt.header); string(got) != "a"+tt.want {
			t.Errorf("%s: got %q; want %q", name, got, "a"+tt.want)
		}
	}
}

// Whatever arrives, Read is bounded, reads nothing behind the header, and what it understands can be written
// and read again.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"PROXY TCP4 198.51.100.9 192.0.2.1 40001 21\r\nUSER a\r\n", "PROXY UNKNOWN\r\n", "USER a\r\n",
		v2("21 11 001e"+v4Addresses+tlvs) + "rest", v2("20 00 0000"), v2("21 21 0024" + v6Addresses),
		v2("21 11 ffff"), v2("21 31 00d8") + strings.Repeat("a", 216),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		src := bytes.NewReader(text)
		h, n, err := Read(src)
		if read := len(text) - src.Len(); n != read || n > fixed+longestRest {
			t.Fatalf("got %d bytes; want %d, and at most %d", n, read, fixed+longestRest)
		}
		if err != nil {
			if h != (Header{}) {
				t.Fatalf("got %+v with %v; want no header", h, err)
			}
			return
		}
		if again, _, err := Read(bytes.NewReader(text[:n])); again != h || err != nil {
			t.Fatalf("got %+v, %v without the rest; want %+v", again, err, h)
		}
		for _, version := range []forward.ProxyProtocol{forward.ProxyProtocolV1, forward.ProxyProtocolV2} {
			written := Append(nil, version, h)
			again, n, err := Read(bytes.NewReader(written))
			if again != h || n != len(written) || err != nil {
				t.Fatalf("%s: got %+v, %d bytes, %v; want %+v", version, again, n, err, h)
			}
		}
	})
}
