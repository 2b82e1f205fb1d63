package ftp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
)

// ParseHostPort reads the argument of PORT: h1,h2,h3,h4,p1,p2 (RFC 959 section 5.3.2). It accepts six decimal
// numbers from 0 to 255. As servers do, it also accepts leading zeros, which it reads as decimal, and spaces
// before a number. It refuses signs and port 0. A caller must not forward the argument unchanged: another
// reader may take a leading zero for octal.
func ParseHostPort(arg []byte) (netip.AddrPort, error) {
	ap, n, why := scanHostPort(arg, spacesAllowed)
	if why == "" && n < len(arg) {
		why = "more than six numbers"
	}
	if why != "" {
		return netip.AddrPort{}, fmt.Errorf("host and port %.64q: %s", arg, why)
	}
	return ap, nil
}

// AppendHostPort appends h1,h2,h3,h4,p1,p2. It panics if the address is not IPv4.
func AppendHostPort(dst []byte, ap netip.AddrPort) []byte {
	for _, b := range ap.Addr().As4() {
		dst = append(strconv.AppendUint(dst, uint64(b), 10), ',')
	}
	dst = append(strconv.AppendUint(dst, uint64(ap.Port()>>8), 10), ',')
	return strconv.AppendUint(dst, uint64(ap.Port()&0xff), 10)
}

// Parse227 reads the text after the code in the last line of a 227 reply. RFC 959 does not define its form,
// and RFC 1123 section 4.1.2.6 says to search for the first digit, with or without parentheses. But words
// before the numbers may have digits ("node7"). So Parse227 takes the first sequence of exactly six numbers,
// with no comma, digit or sign before it, and no comma or digit after it. It reads numbers with leading zeros
// as decimal, as every client does.
//
// The caller has to check the address: printers announce 0.0.0.0.
func Parse227(text []byte) (netip.AddrPort, error) {
	ap, _, _, err := find227(text, strict)
	return ap, err
}

// Port227 returns the port of a 227 reply. It reads the reply as Parse227 does, but the numbers of the
// address may be above 255, for a caller that ignores the address.
func Port227(text []byte) (uint16, error) {
	ap, _, _, err := find227(text, anyAddress)
	return ap.Port(), err
}

// find227 returns the place of the numbers in the text of a 227 reply: text[begin:end].
func find227(text []byte, form hostPortForm) (ap netip.AddrPort, begin, end int, err error) {
	why := "no address and port in it"
	for i := 0; i < len(text); i++ {
		if !isDigit(text[i]) {
			continue
		}
		if i > 0 && (isDigit(text[i-1]) || bytes.IndexByte([]byte(",+-"), text[i-1]) >= 0) {
			continue
		}
		ap, n, fault := scanHostPort(text[i:], form)
		end := i + n
		if fault == "" && (end == len(text) || text[end] != ',' && !isDigit(text[end])) {
			return ap, i, end, nil
		}
		if fault != "" && n > 0 {
			why = fault
		}
	}
	return netip.AddrPort{}, 0, 0, fmt.Errorf("227 reply %.128q: %s", text, why)
}

// Rewrite227 appends the text of a 227 reply, as Port227 reads it, with other numbers. It returns false, and
// appends nothing, if the words around the numbers are not WithoutNumbers: a client might read wrong numbers.
// It panics like AppendHostPort.
func Rewrite227(dst, text []byte, ap netip.AddrPort) ([]byte, bool) {
	_, begin, end, err := find227(text, anyAddress)
	if err != nil {
		return dst, false
	}
	before, after := text[:begin], text[end:]
	if bytes.HasSuffix(before, []byte{'('}) && bytes.HasPrefix(after, []byte{')'}) {
		before, after = before[:len(before)-1], after[1:]
	}
	if !WithoutNumbers(before) || !WithoutNumbers(after) {
		return dst, false
	}
	dst = AppendHostPort(append(dst, text[:begin]...), ap)
	return append(dst, text[end:]...), true
}

// WithoutNumbers reports whether no client can find an address or a port in words, nor miss one beside them.
// They must have no digit, Unicode's included, no parenthesis (some clients read only the text in the first
// ones), no bar, and no control character.
func WithoutNumbers(words []byte) bool {
	for _, c := range words {
		if c < ' ' || c > '~' || isDigit(c) || c == '(' || c == ')' || c == '|' {
			return false
		}
	}
	return true
}

// Append227 appends the text of a 227 reply in the words of RFC 959, which every client knows. It panics like
// AppendHostPort.
func Append227(dst []byte, ap netip.AddrPort) []byte {
	dst = append(dst, "Entering Passive Mode ("...)
	dst = AppendHostPort(dst, ap)
	return append(dst, ')')
}

// hostPortForm is an accepted form of h1,h2,h3,h4,p1,p2.
type hostPortForm uint8

const (
	strict        hostPortForm = iota // commas and digits
	spacesAllowed                     // with spaces before a number
	anyAddress                        // the first four numbers may be above 255; then the address is 0.0.0.0
)

// maxDigits is the longest number that a parser with 32 bits can read.
const maxDigits = 10

// scanHostPort reads six numbers at the beginning of s; n is their length in bytes. why is not empty if they
// are no address and port; then n is 0, unless there were six numbers.
func scanHostPort(s []byte, form hostPortForm) (ap netip.AddrPort, n int, why string) {
	var num [6]byte
	addressFits := true
	for part := range num {
		if part > 0 {
			if n == len(s) || s[n] != ',' {
				return ap, 0, "want six numbers with commas between them"
			}
			n++
		}
		for form == spacesAllowed && n < len(s) && s[n] == ' ' {
			n++
		}
		begin, v := n, int64(0)
		for n < len(s) && isDigit(s[n]) && n-begin < maxDigits {
			v = v*10 + int64(s[n]-'0')
			n++
		}
		isAddress := part < 4
		switch {
		case n == begin:
			return ap, 0, "want six numbers with commas between them"
		case v <= 255:
		case isAddress && form == anyAddress:
			addressFits = false
		default:
			return ap, 0, "a number is above 255"
		}
		num[part] = byte(v)
	}
	port := uint16(num[4])<<8 | uint16(num[5])
	if port == 0 {
		return ap, n, "port 0"
	}
	addr := netip.AddrFrom4([4]byte(num[:4]))
	if !addressFits {
		addr = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(addr, port), n, ""
}
