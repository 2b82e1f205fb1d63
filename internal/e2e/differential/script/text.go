package script

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Expand returns the bytes that a text stands for, one slice for each write. own is where the end listens
// for data.
func Expand(text string, own netip.AddrPort) (writes [][]byte, err error) {
	var b []byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			rest := text[i+1:]
			if strings.HasPrefix(rest, "|") {
				writes, b = append(writes, b), nil
				i++
				continue
			}
			value, tail, err := unescape(rest)
			if err != nil {
				return nil, err
			}
			b = append(b, value)
			i += len(rest) - len(tail)
		case '{':
			name, _, found := strings.Cut(text[i+1:], "}")
			value, ok := placeholder(name, own)
			if !found || !ok {
				b = append(b, c)
				continue
			}
			b = append(b, value...)
			i += len(name) + 1
		default:
			b = append(b, c)
		}
	}
	return append(writes, b), nil
}

// unescape reads what stands behind a backslash.
func unescape(text string) (value byte, tail string, err error) {
	if text == "" {
		return 0, "", fmt.Errorf("a backslash at the end")
	}
	switch text[0] {
	case 'r':
		return '\r', text[1:], nil
	case 'n':
		return '\n', text[1:], nil
	case 't':
		return '\t', text[1:], nil
	case '\\':
		return '\\', text[1:], nil
	case 'x':
		if len(text) >= 3 {
			if n, err := strconv.ParseUint(text[1:3], 16, 8); err == nil {
				return byte(n), text[3:], nil
			}
		}
	}
	return 0, "", fmt.Errorf("what is \\%.3s", text)
}

// placeholder writes a listener's address.
func placeholder(name string, own netip.AddrPort) (string, bool) {
	octets, port := own.Addr().Unmap().AsSlice(), own.Port()
	numbers := func(format, separator string) string {
		var all []string
		for _, o := range append(octets, byte(port>>8), byte(port)) {
			all = append(all, fmt.Sprintf(format, o))
		}
		return strings.Join(all, separator)
	}
	switch name {
	case "hostport":
		return numbers("%d", ","), true
	case "zeros":
		return numbers("%03d", ","), true
	case "blanks":
		return numbers("%d", ", "), true
	case "p1":
		return fmt.Sprint(port >> 8), true
	case "p2":
		return fmt.Sprint(port & 0xff), true
	case "port":
		return fmt.Sprint(port), true
	case "address":
		return own.Addr().Unmap().String(), true
	case "eprt":
		version := 1
		if own.Addr().Unmap().Is6() {
			version = 2
		}
		return fmt.Sprintf("|%d|%s|%d|", version, own.Addr().Unmap(), port), true
	}
	return "", false
}

// Quote writes bytes as a text that Expand reads.
func Quote(raw []byte) string {
	var b strings.Builder
	for _, c := range raw {
		switch {
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\\':
			b.WriteString(`\\`)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Flat returns all that a text stands for, without the places where writes end.
func Flat(text string, own netip.AddrPort) ([]byte, error) {
	writes, err := Expand(text, own)
	return bytes.Join(writes, nil), err
}
