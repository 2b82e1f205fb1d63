package nftset

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
)

// ownSourceTimeout is when the kernel deletes an element by itself: later than any connection takes to be
// established (tcp_syn_retries in ip-sysctl.rst: 127 s).
const ownSourceTimeout = 3 * time.Minute

// OwnSourceSet gives connections of the gateway's own another source address. Any number of goroutines may
// use it at once: one transaction after the other.
type OwnSourceSet struct {
	mu     sync.Mutex // held during a transaction
	conn   *elementConn
	closed bool
}

// OpenOwnSourceSet connects to the nftables of the network namespace that it is called in. The table must be
// one of ftpgate's; it may be installed later. The caller closes the set.
func OpenOwnSourceSet(table string) (*OwnSourceSet, error) {
	c, err := openElementConn(table)
	if err != nil {
		return nil, err
	}
	return &OwnSourceSet{conn: c}, nil
}

// Add makes the next connection from an address and port of the gateway to a target come from another source
// address, of the same family. The kernel keeps the port unless another connection from that source to the
// target has it. The error wraps ENOENT if the table or its map is gone, ENFILE if ruleset.MaxOwnSources
// connections are being made, and net.ErrClosed.
func (s *OwnSourceSet) Add(own, target netip.AddrPort, source netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := ownSourceElement(own, target, source)
	err := net.ErrClosed
	switch {
	case !e.pinhole.OneFamily():
		err = errors.New("want addresses of one family")
	case !s.closed:
		err = s.conn.add(ownSourceTimeout, []element{e})
	}
	if err != nil {
		return fmt.Errorf("nftset: show %s in place of %s to %s: %w", source, own, target, err)
	}
	return nil
}

// Remove deletes an element after its connection was established, which continues. It is no error if there is
// none. After an error the kernel deletes it itself.
func (s *OwnSourceSet) Remove(own, target netip.AddrPort, source netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	elements := []element{ownSourceElement(own, target, source)}
	return s.conn.deleteEach(changesOf(unix.NFT_MSG_DELSETELEM, elements))
}

// Close disconnects from the kernel. A second call does nothing.
func (s *OwnSourceSet) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.conn.close()
}

func ownSourceElement(own, target netip.AddrPort, source netip.Addr) element {
	addresses := pinhole.Pinhole{From: own.Addr(), Listen: own, Target: target, SourceIP: source}
	return element{role: ownSourceMap, pinhole: &addresses}
}
