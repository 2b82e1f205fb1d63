package ftp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
)

// ParseHostPort reads the argument of PORT: h1,h2,h3,h4,p1,p2 (RFC 959 section 5.3.2). It accepts six decimal
// numbers from 0 to 255 and nothing else: no signs, no spaces, and no leading zeros, which some parsers read
// as octal. It refuses port 0.
func ParseHostPort(arg []byte) (netip.AddrPort, error) {
	ap, n, why := scanHostPort(arg, false)
	if why == "" && n < len(arg) {
		why = "more than six numbers"
	}
	if why != "" {
		return netip.AddrPort{}, fmt.Errorf("host and port %.64q: %s", arg, why)
	}
	return ap, nil
}

// AppendHostPort appends h1,h2,h3,h4,p1,p2. It panics if the address is not IPv4: the caller has to check
// that.
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
	why := "no address and port in it"
	for i := 0; i < len(text); i++ {
		if !isDigit(text[i]) {
			continue
		}
		if i > 0 && (isDigit(text[i-1]) || bytes.IndexByte([]byte(",+-"), text[i-1]) >= 0) {
			continue
		}
		ap, n, fault := scanHostPort(text[i:], true)
		end := i + n
		if fault == "" && (end == len(text) || text[end] != ',' && !isDigit(text[end])) {
			return ap, nil
		}
		if fault != "" && n > 0 {
			why = fault
		}
	}
	return netip.AddrPort{}, fmt.Errorf("227 reply %.128q: %s", text, why)
}

// Append227 appends the text of a 227 reply in the words of RFC 959, which every client knows. It panics like
// AppendHostPort.
func Append227(dst []byte, ap netip.AddrPort) []byte {
	dst = append(dst, "Entering Passive Mode ("...)
	dst = AppendHostPort(dst, ap)
	return append(dst, ')')
}

// scanHostPort reads six numbers at the beginning of s; n is their length in bytes. why is not empty if they
// are no address and port; n is 0 then, unless there were six numbers. zeros allows leading zeros.
func scanHostPort(s []byte, zeros bool) (ap netip.AddrPort, n int, why string) {
	var num [6]byte
	for part := range num {
		if part > 0 {
			if n == len(s) || s[n] != ',' {
				return ap, 0, "want six numbers with commas between them"
			}
			n++
		}
		begin, v := n, 0
		for n < len(s) && isDigit(s[n]) && n-begin < 4 {
			v = v*10 + int(s[n]-'0')
			n++
		}
		switch digits := n - begin; {
		case digits == 0:
			return ap, 0, "want six numbers with commas between them"
		case digits > 3 || v > 255:
			return ap, 0, "a number is above 255"
		case digits > 1 && s[begin] == '0' && !zeros:
			return ap, 0, "a number begins with 0"
		}
		num[part] = byte(v)
	}
	port := uint16(num[4])<<8 | uint16(num[5])
	if port == 0 {
		return ap, n, "port 0"
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(num[:4])), port), n, ""
}
