package system

import (
	"fmt"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Rights are the permissions of a process that a gateway needs.
type Rights struct {
	Administer bool   // change this network namespace (CAP_NET_ADMIN)
	BindLow    bool   // listen at privileged ports (CAP_NET_BIND_SERVICE)
	OpenFiles  uint64 // limit of descriptors: the hard one, to which Go raises the soft one
}

// OwnRights returns the rights of the calling thread.
func OwnRights() (Rights, error) {
	var r Rights
	var err error
	if r.Administer, err = CanAdministerNetwork(); err != nil {
		return Rights{}, err
	}
	if r.BindLow, err = capableInNetwork(unix.CAP_NET_BIND_SERVICE); err != nil {
		return Rights{}, err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return Rights{}, fmt.Errorf("system: read the limit of open files: %w", err)
	}
	r.OpenFiles = limit.Max
	return r, nil
}

// RightsOf returns the rights of another process, which every process may read: its effective capabilities in
// its own user namespace, and its limits.
func RightsOf(pid int) (Rights, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return Rights{}, fmt.Errorf("system: process %d: %w", pid, err)
	}
	status, err := proc.NewStatus()
	if err != nil {
		return Rights{}, fmt.Errorf("system: process %d: read capabilities: %w", pid, err)
	}
	limits, err := proc.Limits()
	if err != nil {
		return Rights{}, fmt.Errorf("system: process %d: read limits: %w", pid, err)
	}
	has := func(c uint) bool { return status.CapEff&(1<<c) != 0 }
	return Rights{
		Administer: has(unix.CAP_NET_ADMIN),
		BindLow:    has(unix.CAP_NET_BIND_SERVICE),
		OpenFiles:  limits.OpenFiles, // the soft limit, which Go has raised
	}, nil
}
