// Package quirk is an FTP server that answers PASV in ways that clients understand, but that a program which
// reads single packets does not: in two segments, behind another reply, with the address of another host. The
// user's name selects the quirk.
//
// The server supports PASV, LIST and little more, accepts any password, and stores nothing. It is for the
// demo only.
package quirk

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/core/ftp"
)

// Quirk is a peculiarity of the reply to PASV, and the name of the user who gets it.
type Quirk string

// The quirks, and what kind of server has them.
const (
	// TwoSegments is a 227 in two segments: a server without a buffer writes it word by word.
	TwoSegments Quirk = "two-segments"
	// OneSegment is a 227 behind another reply, if the client sent two commands at once:
	// a server with a buffer writes it when it has no more commands to answer.
	OneSegment Quirk = "one-segment"
	// PartialLine is a 227 of two lines (RFC 959 section 4.2), split within the first line.
	PartialLine Quirk = "partial-line"
	// Foreign is a 227 with the address of another host: the server is configured for an
	// address translation that no longer exists.
	Foreign Quirk = "foreign-address"
	// Unspecified is a 227 with 0.0.0.0: the address to which the server's socket is bound.
	Unspecified Quirk = "no-address"
)

// Address returns the address that a server at own announces.
func (q Quirk) Address(own netip.Addr) netip.Addr {
	switch q {
	case Foreign:
		return netip.AddrFrom4([4]byte{198, 51, 100, 7}) // of a documentation prefix (RFC 5737)
	case Unspecified:
		return netip.IPv4Unspecified()
	}
	return own
}

// Segments returns the reply to PASV for a data port, as the segments that the server writes.
func (q Quirk) Segments(port netip.AddrPort) []string {
	announced := netip.AddrPortFrom(q.Address(port.Addr()), port.Port())
	hostPort := fmt.Sprintf("(%s)\r\n", ftp.AppendHostPort(nil, announced))
	switch q {
	case TwoSegments:
		return []string{"227 Entering Passive ", "Mode " + hostPort}
	case PartialLine:
		return []string{"227-Entering Pas", "sive Mode\r\n227 " + hostPort}
	}
	return []string{"227 Entering Passive Mode " + hostPort}
}
