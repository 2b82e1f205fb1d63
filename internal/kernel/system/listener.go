package system

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/prometheus/procfs"
)

// stateListen is TCP_LISTEN of include/net/tcp_states.h.
const stateListen = 10

// Listener is a TCP socket that listens for connections.
type Listener struct {
	// Addr is where it listens. The unspecified address is every address of its family.
	Addr netip.AddrPort
	// Dual reports that an IPv6 wildcard accepts IPv4 as well. The kernel does not show IPV6_V6ONLY in /proc,
	// so this is inferred: [::] is dual unless 0.0.0.0 listens at the same port, which would need
	// SO_REUSEPORT beside a dual one. So a lone IPv6-only wildcard is reported as dual.
	Dual bool
	// Process is "vsftpd (pid 123)", or "" if it is unknown or was not asked for (WithProcesses).
	Process string

	inode uint64 // 0: unknown, for example of the inner socket of a multipath TCP listener
}

// Listeners returns the TCP sockets of all processes that listen in this namespace, sorted by port and
// address. It does not show whether a socket is bound to an interface. Without IPv6 in the kernel it returns
// those of IPv4.
func Listeners() ([]Listener, error) {
	proc, err := procfs.NewFS(threadProc)
	if err != nil {
		return nil, fmt.Errorf("system: list listening sockets: %w", err)
	}
	// The library recommends sock_diag(7). That needs a module (tcp_diag), which may not be available; /proc
	// needs nothing, and is read only once.
	tcp, err := proc.NetTCP() //lint:ignore SA1019 see above
	if err != nil {
		return nil, fmt.Errorf("system: list listening sockets: %w", err)
	}
	tcp6, err := proc.NetTCP6() //lint:ignore SA1019 see above
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("system: list listening sockets: %w", err)
	}
	return listening(slices.Concat(tcp, tcp6)), nil
}

// listening returns the sockets in state LISTEN, and sets Dual.
func listening(sockets procfs.NetTCP) []Listener {
	var ls []Listener
	wild4 := map[uint16]bool{} // ports at which 0.0.0.0 listens
	for _, s := range sockets {
		addr, ok := netip.AddrFromSlice(s.LocalAddr)
		if s.St != stateListen || !ok {
			continue
		}
		at := netip.AddrPortFrom(addr.Unmap(), uint16(s.LocalPort)) // ::ffff:192.0.2.1 is IPv4
		ls = append(ls, Listener{Addr: at, inode: s.Inode})
		if at.Addr() == netip.IPv4Unspecified() {
			wild4[at.Port()] = true
		}
	}
	for i, l := range ls {
		ls[i].Dual = l.Addr.Addr() == netip.IPv6Unspecified() && !wild4[l.Addr.Port()]
	}
	slices.SortStableFunc(ls, func(a, b Listener) int {
		if d := int(a.Addr.Port()) - int(b.Addr.Port()); d != 0 {
			return d
		}
		return a.Addr.Compare(b.Addr)
	})
	return ls
}

// WithProcesses returns the listeners with Process set, if the process is visible in /proc and this one may
// read its descriptors (root, or the same user). If several processes share a socket, it is the one with the
// lowest pid. It reads the descriptors of every process until it has found all listeners: pass only those
// that matter.
func WithProcesses(listeners ...Listener) []Listener {
	named := slices.Clone(listeners)
	wanted := map[string][]int{} // indices of listeners, by the link of their descriptor
	for i, l := range named {
		if l.inode != 0 {
			link := fmt.Sprintf("socket:[%d]", l.inode)
			wanted[link] = append(wanted[link], i)
		}
	}
	for _, p := range processes() {
		if len(wanted) == 0 {
			break
		}
		// A process that has just ended, or whose descriptors this one may not read, has none.
		links, _ := p.FileDescriptorTargets()
		for _, link := range links {
			for _, i := range wanted[link] {
				named[i].Process = processName(p)
			}
			delete(wanted, link)
		}
	}
	return named
}

// processes returns the processes in /proc, sorted by pid.
func processes() procfs.Procs {
	procs, err := procfs.AllProcs()
	if err != nil {
		return nil
	}
	slices.SortFunc(procs, func(a, b procfs.Proc) int { return a.PID - b.PID })
	return procs
}

// processName returns "vsftpd (pid 123)". A process chooses its own name, so processName replaces characters
// that cannot be printed by question marks.
func processName(p procfs.Proc) string {
	name, err := p.Comm()
	if err != nil {
		return fmt.Sprintf("pid %d", p.PID)
	}
	printable := func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}
	return fmt.Sprintf("%s (pid %d)", strings.Map(printable, name), p.PID)
}
