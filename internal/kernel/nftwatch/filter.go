package nftwatch

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"ftpgate/internal/kernel/netlink"
)

// ignoreOwn attaches a BPF program to a socket that drops the notifications of changes that this process
// makes. The program looks at the first message of a datagram: all are of one transaction.
func ignoreOwn(fd int) error {
	const (
		portIDOffset = 12 // of nlmsg_pid in struct nlmsghdr
		load         = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		and          = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		equal        = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret          = unix.BPF_RET | unix.BPF_K
	)
	first, mask := netlink.OwnPortIDs()
	program := []unix.SockFilter{
		{Code: load, K: portIDOffset},
		{Code: and, K: asLoaded(mask)},
		{Code: equal, K: asLoaded(first), Jf: 1},
		{Code: ret, K: 0},         // drop
		{Code: ret, K: 1<<32 - 1}, // keep
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	return os.NewSyscallError("setsockopt", err)
}

// asLoaded returns a number in the machine's byte order as a BPF program loads it: in big-endian order.
func asLoaded(n uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n))
}
