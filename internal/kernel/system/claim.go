package system

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// claimPrefix distinguishes ftpgate's names from other programs' abstract sockets. The @ stands for the
	// NUL byte that makes a socket abstract (unix(7)).
	claimPrefix = "@ftpgate/"
	// maxClaimName keeps a name with its prefix well within the 108 bytes of sun_path. A longer name is cut,
	// and its hash appended. The result is longer than maxClaimName, so that it never equals a name that was
	// not cut.
	maxClaimName = 64
	// claimAttempts bounds the attempts if the holder vanishes between the refusal and the question who it
	// is. A process that binds the name and never listens looks the same, and must not block ftpgate for
	// ever.
	claimAttempts = 100
	// acceptPause limits how often a process without free descriptors tries to accept.
	acceptPause = 100 * time.Millisecond
)

// ClaimedError says that another process holds the claim.
type ClaimedError struct {
	Name string
	PID  int // of the holder; 0 if unknown, for example in another PID namespace
	UID  int // of the holder; -1 if unknown
}

func (e *ClaimedError) Error() string {
	switch {
	case e.UID < 0:
		return fmt.Sprintf("system: claim %q: another process holds it", e.Name)
	case e.PID == 0:
		return fmt.Sprintf("system: claim %q: a process of user %d holds it, in another container",
			e.Name, e.UID)
	}
	return fmt.Sprintf("system: claim %q: process %d of user %d holds it", e.Name, e.PID, e.UID)
}

// Claim is a name that one process of a network namespace holds until it releases the name or dies, even by
// SIGKILL. It is an abstract unix socket. Like nftables tables, these belong to a network namespace. They
// have no permissions, so that a claim only keeps honest processes apart: a hostile user of the host can take
// it first, and the ClaimedError names that user.
type Claim struct {
	name     string
	listener *net.UnixListener
	closing  chan struct{}
	done     chan struct{} // closed by answer
	release  func() error
}

// ClaimName claims a name in the calling thread's network namespace. If another process holds it, the error
// is a *ClaimedError. A name may be longer than 64 bytes. The caller releases the claim.
func ClaimName(name string) (*Claim, error) {
	addr, err := claimAddr(name)
	if err != nil {
		return nil, err
	}
	for range claimAttempts {
		listener, err := net.ListenUnix("unix", addr)
		if err == nil {
			return newClaim(name, listener), nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("system: claim %q: %w", name, err)
		}
		held, peer, err := askHolder(addr)
		if err != nil {
			return nil, fmt.Errorf("system: claim %q: ask its holder: %w", name, err)
		}
		if held {
			return nil, &ClaimedError{Name: name, PID: peer.pid, UID: peer.uid}
		}
		runtime.Gosched() // the holder vanished, or is about to listen
	}
	return nil, &ClaimedError{Name: name, UID: -1}
}

// Claimed reports whether a process of this network namespace holds a name, and which process; pid is 0 if
// unknown. It claims nothing.
func Claimed(name string) (held bool, pid int, err error) {
	addr, err := claimAddr(name)
	if err != nil {
		return false, 0, err
	}
	held, peer, err := askHolder(addr)
	if err != nil {
		return false, 0, fmt.Errorf("system: ask who holds %q: %w", name, err)
	}
	return held, peer.pid, nil
}

func newClaim(name string, listener *net.UnixListener) *Claim {
	c := &Claim{name: name, listener: listener, closing: make(chan struct{}), done: make(chan struct{})}
	c.release = sync.OnceValue(c.close)
	go c.answer()
	return c
}

// Release gives up the claim, and waits for its goroutine. Further calls do nothing and return the same
// error.
func (c *Claim) Release() error { return c.release() }

func (c *Claim) close() error {
	close(c.closing)
	err := c.listener.Close()
	<-c.done
	if err != nil {
		return fmt.Errorf("system: release claim %q: %w", c.name, err)
	}
	return nil
}

// answer accepts connections and closes them, so that the queue never fills up. The kernel shows a connecting
// process which process holds the claim. answer ends when the listener is closed.
func (c *Claim) answer() {
	defer close(c.done)
	for {
		conn, err := c.listener.Accept()
		switch {
		case err == nil:
			conn.Close() // nothing was written
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors; the claim is still valid
			select {
			case <-c.closing:
			case <-time.After(acceptPause):
			}
		}
	}
}

// claimAddr returns the address of the abstract socket for a name.
func claimAddr(name string) (*net.UnixAddr, error) {
	if name == "" || strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("system: claim %q: a name has at least one byte and no NUL", name)
	}
	short := name
	if len(name) > maxClaimName {
		short = fmt.Sprintf("%s~%x", name[:maxClaimName-32], sha256.Sum256([]byte(name)))
		short = short[:maxClaimName+1]
	}
	return &net.UnixAddr{Name: claimPrefix + short, Net: "unix"}, nil
}

// holder is the process at a socket's other end.
type holder struct{ pid, uid int }

// askHolder reports whether a process listens at addr, and which process. It does not block: if the holder is
// stopped and its queue is full, the process is unknown.
func askHolder(addr *net.UnixAddr) (held bool, by holder, err error) {
	unknown := holder{uid: -1}
	conn, err := net.DialUnix("unix", nil, addr)
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return false, unknown, nil
	case errors.Is(err, unix.EAGAIN):
		return true, unknown, nil
	case err != nil:
		return false, unknown, err
	}
	defer conn.Close()
	cred, err := PeerOf(conn)
	if err != nil {
		return false, unknown, err
	}
	return true, holder{pid: int(cred.Pid), uid: int(cred.Uid)}, nil
}

// PeerOf returns the process at the other end of a unix socket, and its user: at a listener's end, those that
// connected; at the other, those that called listen(2) (unix(7), SO_PEERCRED).
func PeerOf(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	err = onDescriptor(raw, func(fd int) (err error) {
		peer, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return os.NewSyscallError("getsockopt SO_PEERCRED", err)
	})
	return peer, err
}
