// Package proxyprotocol reads and writes the header of the PROXY protocol, versions 1 and 2: the first bytes
// of a connection that a balancer or a gateway opens for a client, with the client's address and the address
// that the client dialled (haproxy.org, proxy-protocol.txt). A library knows the format; this package bounds
// what it reads, and reads no byte behind the header, so that the connection stays as it is.
//
// It does not decide whose header counts, and sets no deadline.
package proxyprotocol

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	library "github.com/pires/go-proxyproto"

	"ftpgate/internal/core/forward"
)

// ReadTime is how long a header may take. It is sent at once, in one piece; a lost segment is sent again
// within three seconds (proxy-protocol.txt, section 4).
const ReadTime = 5 * time.Second

const (
	// shortest is what each header has: "PROXY UNKNOWN" with CR LF in version 1, 16 bytes in version 2.
	shortest = 15
	// fixed is the part of a header of version 2 that ends with the length of the rest.
	fixed = 16
	// longestV1 is the longest header of version 1 (proxy-protocol.txt, section 2.1).
	longestV1 = 107
	// longestRest is how long the rest may be in version 2: the addresses, and what balancers add to them,
	// up to a client's certificate. Nothing of that is kept.
	longestRest = 4096
)

var (
	signatureV1 = []byte("PROXY ")
	signatureV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// Header is what the sender of a header says. The zero value is a connection of the sender's own, such as a
// health check: LOCAL in version 2, UNKNOWN in version 1.
type Header struct {
	Client  netip.AddrPort // the client
	Dialled netip.AddrPort // the address that the client dialled
}

// IsLocal reports whether the sender opened the connection for itself, and not for a client.
func (h Header) IsLocal() bool { return h == Header{} }

// ErrNone says that a connection ended before its first byte.
var ErrNone = errors.New("the connection ended without a header")

var (
	errNoHeader = errors.New("the connection does not begin with a PROXY protocol header")
	errTooLong  = errors.New("the PROXY protocol header is too long")
	errNotTCP   = errors.New("the PROXY protocol header is not about a TCP connection")
	errUnusable = errors.New("the PROXY protocol header names an address or a port that no client has")
)

// Read reads a header from r, and no byte behind it; n is its length. The error is ErrNone, that of r, or
// says what is wrong with the header. It quotes nothing of what was read.
func Read(r io.Reader) (h Header, n int, err error) {
	read := make([]byte, 0, longestV1)
	for {
		more, err := missing(read)
		if err != nil {
			return Header{}, len(read), err
		}
		if more == 0 {
			break
		}
		at := len(read)
		read = append(read, make([]byte, more)...)
		got, err := r.Read(read[at:])
		read = read[:at+got]
		switch {
		case got > 0: // the error comes again
		case err == io.EOF && at == 0:
			return Header{}, 0, ErrNone
		case err == io.EOF:
			return Header{}, at, fmt.Errorf("the PROXY protocol header is cut short: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return Header{}, at, err
		}
	}
	h, err = parse(read)
	return h, len(read), err
}

// missing returns how many more bytes a header has at least after those that were read; 0: it is complete.
func missing(read []byte) (int, error) {
	n := len(read)
	switch {
	case begins(read, signatureV1):
		switch {
		case n > 0 && read[n-1] == '\n':
			return 0, nil
		case n < shortest:
			return shortest - n, nil
		case n >= longestV1:
			return 0, errTooLong
		}
		return 1, nil // its length is not known
	case begins(read, signatureV2):
		if n < fixed {
			return fixed - n, nil
		}
		rest := int(binary.BigEndian.Uint16(read[fixed-2:]))
		if rest > longestRest {
			return 0, errTooLong
		}
		return fixed + rest - n, nil
	}
	return 0, errNoHeader
}

// begins reports whether what was read begins with a signature, or is the beginning of it.
func begins(read, signature []byte) bool {
	n := min(len(read), len(signature))
	return bytes.Equal(read[:n], signature[:n])
}

// parse reads a whole header.
func parse(header []byte) (Header, error) {
	read, err := library.Read(bufio.NewReaderSize(bytes.NewReader(header), fixed+longestRest))
	if err != nil {
		return Header{}, fmt.Errorf("the PROXY protocol header is malformed (%w)", err)
	}
	if read.Command.IsLocal() {
		return Header{}, nil
	}
	client, dialled, tcp := read.TCPAddrs()
	if !tcp {
		return Header{}, errNotTCP
	}
	h := Header{Client: unmap(client.AddrPort()), Dialled: unmap(dialled.AddrPort())}
	if addr := h.Client.Addr(); addr.IsUnspecified() || addr.IsMulticast() ||
		addr.Is4() != h.Dialled.Addr().Is4() || h.Client.Port() == 0 {
		return Header{}, errUnusable
	}
	return h, nil
}

// unmap returns an IPv4 address as IPv4.
func unmap(at netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Append appends a header, if there is a version.
func Append(to []byte, version forward.ProxyProtocol, h Header) []byte {
	var number byte
	switch version {
	case forward.ProxyProtocolV1:
		number = 1
	case forward.ProxyProtocolV2:
		number = 2
	default:
		return to
	}
	var client, dialled net.Addr
	if !h.IsLocal() {
		client, dialled = net.TCPAddrFromAddrPort(h.Client), net.TCPAddrFromAddrPort(h.Dialled)
	}
	header, err := library.HeaderProxyFromAddrs(number, client, dialled).Format()
	if err != nil {
		panic(fmt.Sprintf("proxyprotocol: header of %s and %s: %v", h.Client, h.Dialled, err))
	}
	return append(to, header...)
}
