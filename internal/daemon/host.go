package daemon

import (
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// confine drops the capabilities that serving does not need.
func (d *Daemon) confine() {
	if !d.Confine {
		return
	}
	err := system.KeepCapabilities(unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		d.Log.Info("keeping all capabilities", "err", err)
	case err != nil:
		d.Log.Warn("cannot drop the capabilities that are not needed", "err", err)
	}
}

// cannotReload reports whether this process has lost the right to read its file: without CAP_DAC_OVERRIDE,
// root reads no other user's private file.
func (d *Daemon) cannotReload() []finding.Finding {
	if d.Load == nil {
		return nil
	}
	if _, err := d.Load(); errors.Is(err, fs.ErrPermission) {
		return []finding.Finding{{Severity: finding.Warning,
			Text: d.File + " cannot be read again, so a reload will fail: " +
				"ftpgate has given up the right to read other users' private files",
			Remedy: "give the file to the user that ftpgate runs as (as root: chown root " + d.File + ")"}}
	}
	return nil // what else is wrong, the reload says
}

// enableForwarding switches on the IP forwarding that the forwards need, and logs what it has switched.
func (d *Daemon) enableForwarding(forwards []forward.Resolved) error {
	if !mayUseKernel(forwards) {
		return nil
	}
	ipv6 := slices.ContainsFunc(forwards, func(f forward.Resolved) bool {
		return f.MayUseKernel() && f.Server6.IsValid()
	})
	if ipv6 {
		d.warnOfRouterAdvertisements()
	}
	changed, err := system.EnableForwarding(ipv6)
	for _, sysctl := range changed {
		d.Log.Info("IP forwarding switched on; it stays on when ftpgate stops", "sysctl", sysctl)
	}
	return err
}

// warnOfRouterAdvertisements warns if the host would lose its IPv6 route with IP forwarding. An error here
// is no reason not to start.
func (d *Daemon) warnOfRouterAdvertisements() {
	interfaces, err := system.RouterAdvertisementRisk()
	if err != nil {
		d.Log.Warn("cannot read whether this host gets its IPv6 route from router advertisements", "err", err)
	}
	for _, name := range interfaces {
		d.Log.Warn("interface "+name+" gets its IPv6 route from router advertisements, "+
			"which Linux ignores with IP forwarding", "remedy", "sysctl -w "+system.AcceptRAKey(name)+"=2")
	}
}

// mayUseKernel reports whether the kernel may carry connections of any of the forwards.
func mayUseKernel(forwards []forward.Resolved) bool {
	return slices.ContainsFunc(forwards, func(f forward.Resolved) bool { return f.MayUseKernel() })
}
