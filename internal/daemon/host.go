package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/doctor"
	"ftpgate/internal/diagnose/preflight"
	"ftpgate/internal/kernel/system"
)

// examine makes the findings of "ftpgate doctor" about the host, without a try of the servers. Any goroutine
// may call it; it waits for names.
func (r *instance) examine(ctx context.Context) []finding.Finding {
	published := r.gateway.Forwards()
	forwards := make([]forward.Forward, len(published))
	for i, f := range published {
		forwards[i] = f.Forward
	}
	e := preflight.Examine(ctx, r.Table, forwards)
	return doctor.Examine(e.Facts, e.Forwards)
}

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
	f, err := os.OpenFile(d.File, os.O_RDONLY|unix.O_NONBLOCK, 0) // it may be a pipe
	if err == nil {
		_ = f.Close() // nothing was read
	}
	if errors.Is(err, fs.ErrPermission) {
		return []finding.Finding{{Severity: finding.Warning,
			Text: d.File + " cannot be read again, so a reload will fail: " +
				"ftpgate has given up the right to read other users' private files",
			Remedy: "give the file to the user that ftpgate runs as (as root: chown root " + d.File + ")"}}
	}
	return nil // the reload reports any other error
}
