// Package quirk is an FTP server that answers PASV in ways that clients understand and that a
// reader of single packets does not: cut in two, behind another reply, with an address of
// somewhere else. The user's name says in which way.
//
// It knows PASV and LIST and little more, asks for no password that it would look at, and keeps
// nothing. It is not for use outside the demo.
package quirk

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/core/ftp"
)

// Quirk is what is particular about an answer to PASV, and the name of the user who gets it.
type Quirk string

// The quirks, with servers that have them.
const (
	// TwoSegments is a 227 in two segments: a server without a buffer writes it word by word.
	TwoSegments Quirk = "two-segments"
	// OneSegment is a 227 behind another reply, where the client has sent two commands at once:
	// a server with a buffer empties it when it has nothing more to do.
	OneSegment Quirk = "one-segment"
	// PartialLine is a 227 of two lines (RFC 959 section 4.2), cut in the first one.
	PartialLine Quirk = "partial-line"
	// Foreign is a 227 with the address of another host: the server's own in front of a
	// translation that is no more.
	Foreign Quirk = "foreign-address"
	// Unspecified is a 227 with 0.0.0.0: the address that the server's socket is bound to.
	Unspecified Quirk = "no-address"
)

// Address returns the address that a server at own tells.
func (q Quirk) Address(own netip.Addr) netip.Addr {
	switch q {
	case Foreign:
		return netip.AddrFrom4([4]byte{198, 51, 100, 7}) // of a documentation prefix (RFC 5737)
	case Unspecified:
		return netip.IPv4Unspecified()
	}
	return own
}

// Segments returns the answer to PASV for a data connection to at, as the pieces in which it is
// written.
func (q Quirk) Segments(at netip.AddrPort) []string {
	announced := netip.AddrPortFrom(q.Address(at.Addr()), at.Port())
	place := fmt.Sprintf("(%s)\r\n", ftp.AppendHostPort(nil, announced))
	switch q {
	case TwoSegments:
		return []string{"227 Entering Passive ", "Mode " + place}
	case PartialLine:
		return []string{"227-Entering Pas", "sive Mode\r\n227 " + place}
	}
	return []string{"227 Entering Passive Mode " + place}
}
