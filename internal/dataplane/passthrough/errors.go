package passthrough

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
)

// Error says why a passthrough cannot be opened.
type Error struct {
	Passthrough pinhole.Passthrough
	Err         error

	reason, remedy string
}

func (e *Error) Error() string {
	return fmt.Sprintf("passthrough: open %s: %v", e.Passthrough, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Reply returns the reason for the FTP client, with 431 (RFC 2228 section 5).
func (e *Error) Reply() (code int, text string) { return 431, e.reason }

// Remedy returns what the operator can do about it; empty: Error says it all.
func (e *Error) Remedy() string { return e.remedy }

// invalid returns the error for a passthrough that can never be opened.
func invalid(p pinhole.Passthrough, err error) error {
	return &Error{Passthrough: p, Err: err, reason: "the gateway cannot open the server's ports for data"}
}

// tooWide returns the error for a passthrough with more ports than the relay listens at.
func tooWide(p pinhole.Passthrough, err error) error {
	return &Error{Passthrough: p, Err: err,
		reason: "the server has more ports for data than the gateway can open",
		remedy: orKernel(p, "name a smaller range")}
}

// orKernel returns the remedy, preceded by the kernel if that can carry the passthrough.
func orKernel(p pinhole.Passthrough, remedy string) string {
	if !p.OneFamily() {
		return remedy
	}
	return "run as root or with CAP_NET_ADMIN so that the kernel carries it, or " + remedy
}

// RemedyOverlap is what to do where two passthroughs of a client have a port in common.
const RemedyOverlap = "give the two forwards addresses or server_ports of their own"

// portConflict returns the error for a port that already has another target for the client.
func portConflict(p pinhole.Passthrough, port uint16, taken target) error {
	return &Error{
		Passthrough: p,
		Err: fmt.Errorf("port %d is forwarded to %s as %s for this client already",
			port, taken.server, taken.sourceIP),
		reason: fmt.Sprintf("port %d of the gateway is forwarded to another server for you "+
			"while another session lasts", port),
		remedy: RemedyOverlap,
	}
}

// cannotListen returns the error for a port that cannot be listened at.
func cannotListen(p pinhole.Passthrough, port uint16, err error) error {
	e := &Error{
		Passthrough: p,
		Err:         fmt.Errorf("port %d: %w", port, err),
		reason:      fmt.Sprintf("the gateway cannot open its port %d for data", port),
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		e.Err = fmt.Errorf("port %d: %w", port, unix.EADDRINUSE)
		e.reason = fmt.Sprintf("port %d of the gateway is in use", port)
		e.remedy = orKernel(p, fmt.Sprintf("end what uses %s (see ss -tanp), and keep outgoing connections "+
			"off ports %s with the sysctl net.ipv4.ip_local_reserved_ports",
			netip.AddrPortFrom(p.Listen, port), p.Ports))
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		e.reason = "the gateway is out of room for more ports"
		e.remedy = orKernel(p, "allow more open files (LimitNOFILE, ulimit -n), or name a smaller range")
	}
	return e
}
