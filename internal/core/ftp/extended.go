package ftp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
)

// Delimiters of EPRT and of 229 replies: any printable ASCII character (RFC 2428 section 2). All known peers
// use '|'.
const (
	firstDelimiter = 33
	lastDelimiter  = 126
)

// Families of EPRT and EPSV: IANA's address family numbers (RFC 2428 section 2).
const (
	FamilyIPv4 = "1"
	FamilyIPv6 = "2"
)

// FamilyError reports an address family that is neither IPv4 nor IPv6. The answer to it is 522 with a list of
// families; the answer to other errors is 501.
type FamilyError struct {
	Family string // as the peer wrote it
}

func (e *FamilyError) Error() string {
	return fmt.Sprintf("unknown address family %.64q: want 1 (IPv4) or 2 (IPv6)", e.Family)
}

// ParseEPRT reads the argument of EPRT: <d>family<d>address<d>port<d> (RFC 2428 section 2), where d is any
// printable character that does not occur in between. The last d may be missing: servers do not require it.
// The address must be of the family. ParseEPRT refuses a zone, and an IPv4-mapped address (::ffff:0:0/96),
// which is never sent. The error wraps a *FamilyError if the family is an unknown number.
func ParseEPRT(arg []byte) (netip.AddrPort, error) {
	fail := func(why string) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("EPRT %.128q: %s", arg, why)
	}
	family, address, portText, fault := cutEPRT(arg)
	if fault != "" {
		return fail(fault)
	}
	if !isFamily(family) {
		if isNumber(family) {
			return netip.AddrPort{}, fmt.Errorf("EPRT %.128q: %w", arg, &FamilyError{string(family)})
		}
		return fail("the family is not a number")
	}
	addr, err := netip.ParseAddr(string(address))
	switch {
	case err != nil:
		return fail("the address is none")
	case addr.Zone() != "":
		return fail("the address has a zone")
	case addr.Is4In6():
		return fail("the address is IPv4 mapped to IPv6")
	case addr.Is4() != (string(family) == FamilyIPv4):
		return fail("the address is not of its family")
	}
	port, ok := parsePort(portText)
	if !ok {
		return fail("the port is not a number from 1 to 65535")
	}
	return netip.AddrPortFrom(addr, port), nil
}

// EPRTFamily returns the number of the family in an argument of EPRT with three fields, without a check of
// the other two. A server that does not know the family answers 522, without a check of the address (RFC 2428
// section 2).
func EPRTFamily(arg []byte) (family string, ok bool) {
	number, _, _, fault := cutEPRT(arg)
	return string(number), fault == "" && isNumber(number)
}

// cutEPRT returns the fields of EPRT's argument. fault is not empty if it has others.
func cutEPRT(arg []byte) (family, address, port []byte, fault string) {
	if len(arg) == 0 || arg[0] < firstDelimiter || arg[0] > lastDelimiter {
		return nil, nil, nil, "want a delimiter from ! to ~ first"
	}
	fields := bytes.SplitN(arg, arg[:1], 6)
	if len(fields) == 5 && len(fields[4]) == 0 {
		fields = fields[:4]
	}
	if len(fields) != 4 || len(fields[0]) != 0 {
		return nil, nil, nil, "want three fields with a delimiter around each"
	}
	return fields[1], fields[2], fields[3], ""
}

// AppendEPRT appends the argument of EPRT with '|'. It writes an IPv4-mapped address as IPv4. It panics if
// the address is not valid or has a zone.
func AppendEPRT(dst []byte, ap netip.AddrPort) []byte {
	addr := ap.Addr().Unmap()
	if !addr.IsValid() || addr.Zone() != "" {
		panic("ftp: AppendEPRT of address " + strconv.Quote(addr.String()))
	}
	family := FamilyIPv6
	if addr.Is4() {
		family = FamilyIPv4
	}
	dst = append(append(append(dst, '|'), family...), '|')
	dst = append(addr.AppendTo(dst), '|')
	return append(strconv.AppendUint(dst, uint64(ap.Port()), 10), '|')
}

// Parse229 reads the text after the code in the last line of a 229 reply, and returns the port: the first
// (<d><d><d>port<d>) in it, with one printable character d (RFC 2428 section 3). The fields for family and
// address must be empty, as the RFC says: the address is that of the control connection.
func Parse229(text []byte) (port uint16, err error) {
	begin, end, found := find229(text)
	if !found {
		return 0, fmt.Errorf("229 reply %.128q: no (|||port|) in it", text)
	}
	port, ok := parsePort(text[begin:end])
	if !ok {
		return 0, fmt.Errorf("229 reply %.128q: the port is not a number from 1 to 65535", text)
	}
	return port, nil
}

// find229 returns the place of the port in the text of a 229 reply: text[begin:end], which is not checked.
func find229(text []byte) (begin, end int, found bool) {
	for i := 0; i+5 < len(text); i++ {
		d := text[i+1]
		if text[i] != '(' || d < firstDelimiter || d > lastDelimiter || text[i+2] != d || text[i+3] != d {
			continue
		}
		begin = i + 4
		n := bytes.IndexByte(text[begin:], d)
		if end = begin + n; n >= 0 && end+1 < len(text) && text[end+1] == ')' {
			return begin, end, true
		}
	}
	return 0, 0, false
}

// NoPort is an invalid port for Rewrite229. A client that reads it as a number of 16 bits gets 0.
const NoPort = 1 << 16

// Rewrite229 appends the text of a 229 reply with another port, or NoPort. It returns false, and appends
// nothing, if the text has no (|||number|), or if the words around it are not WithoutNumbers: a client might
// read wrong numbers. Some clients (FileZilla) know no other delimiter than the bar.
func Rewrite229(dst, text []byte, port uint32) ([]byte, bool) {
	begin, end, found := find229(text)
	if !found || text[end] != '|' || !isNumber(text[begin:end]) ||
		!WithoutNumbers(text[:begin-len("(|||")]) || !WithoutNumbers(text[end+len("|)"):]) {
		return dst, false
	}
	dst = strconv.AppendUint(append(dst, text[:begin]...), uint64(port), 10)
	return append(dst, text[end:]...), true
}

// Append229 appends the text of a 229 reply.
func Append229(dst []byte, port uint16) []byte {
	dst = append(dst, "Entering Extended Passive Mode (|||"...)
	dst = strconv.AppendUint(dst, uint64(port), 10)
	return append(dst, '|', ')')
}

// EPSV is the argument of EPSV (RFC 2428 section 3).
type EPSV uint8

const (
	EPSVAny  EPSV = iota // empty: the family of the control connection
	EPSVIPv4             // 1
	EPSVIPv6             // 2
	EPSVAll              // ALL: from now on the client uses only EPSV
)

// ParseEPSV reads the argument of EPSV: empty, 1, 2, or ALL in upper or lower case. The error wraps a
// *FamilyError if it is another number.
func ParseEPSV(arg []byte) (EPSV, error) {
	switch {
	case len(arg) == 0:
		return EPSVAny, nil
	case isFamily(arg):
		return EPSV(arg[0] - '0'), nil
	case bytes.EqualFold(arg, []byte("ALL")):
		return EPSVAll, nil
	case isNumber(arg):
		return 0, fmt.Errorf("EPSV %.64q: %w", arg, &FamilyError{string(arg)})
	}
	return 0, fmt.Errorf("EPSV %.64q: want nothing, 1, 2 or ALL", arg)
}

// isFamily reports whether s is the number of a known family.
func isFamily(s []byte) bool {
	return string(s) == FamilyIPv4 || string(s) == FamilyIPv6
}

func isNumber(s []byte) bool {
	for _, c := range s {
		if !isDigit(c) {
			return false
		}
	}
	return len(s) > 0
}

// parsePort reads a port from 1 to 65535: decimal digits, perhaps with leading zeros.
func parsePort(s []byte) (uint16, bool) {
	if !isNumber(s) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s), 10, 16)
	return uint16(n), err == nil && n > 0
}
