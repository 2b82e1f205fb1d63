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

// Listener is a TCP socket that waits for connections.
type Listener struct {
	// Addr is where it listens; an unspecified address stands for every address of its family.
	Addr netip.AddrPort
	// Dual: an IPv6 wildcard that takes IPv4 too. The kernel does not show IPV6_V6ONLY in /proc, so
	// this is inferred: [::] is dual unless 0.0.0.0 listens at the same port, which it could not do
	// beside a dual one but with SO_REUSEPORT. A lone IPv6-only wildcard is thus taken for dual.
	Dual bool
	// Process is "vsftpd (pid 123)", or "" where it was not asked for (WithProcesses) or can't be told.
	Process string

	inode uint64 // 0: not known, as for the inner socket of a multipath TCP listener
}

// Listeners returns the TCP sockets that listen in this namespace, by port and address, whichever
// process holds them. A socket bound to one interface can't be told from one that is not.
// Without IPv6 in the kernel there are only those of IPv4.
func Listeners() ([]Listener, error) {
	proc, err := procfs.NewFS(threadProc)
	if err != nil {
		return nil, fmt.Errorf("system: list listening sockets: %w", err)
	}
	// The library would rather have sock_diag(7) used. That needs a module (tcp_diag) which may be
	// neither there nor loadable; /proc needs nothing, and is read once.
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

// listening picks the sockets in LISTEN and tells which are dual.
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

// WithProcesses returns the listeners with Process filled in where it can be told: the process is
// visible in /proc and this one may look at its descriptors (root, or the same user). Of several
// processes with one socket it is the one with the lowest pid. It reads the descriptors of every
// process until all are found: ask only for the listeners that matter.
func WithProcesses(listeners ...Listener) []Listener {
	named := slices.Clone(listeners)
	wanted := map[string][]int{} // listeners by what the descriptor of their socket links to
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
		// A process that has just ended, or that this one may not look at, has no descriptors.
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

// processes returns what /proc shows of processes, by pid; none where it shows none.
func processes() procfs.Procs {
	procs, err := procfs.AllProcs()
	if err != nil {
		return nil
	}
	slices.SortFunc(procs, func(a, b procfs.Proc) int { return a.PID - b.PID })
	return procs
}

// processName returns "vsftpd (pid 123)". A process chooses its own name: what can't be printed
// becomes a question mark.
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
