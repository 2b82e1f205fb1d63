package listeners

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// cannotListen returns the finding for a forward whose socket cannot be opened.
func cannotListen(f forward.Resolved, err error) finding.Finding {
	found := finding.Finding{
		Forward: f.Name,
		Text:    fmt.Sprintf("listen %s: %v", f.Listen, err),
		Remedy:  "choose another address or port",
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		found.Text = fmt.Sprintf("listen %s is in use by %s", f.Listen, holder(f.Listen))
		found.Remedy = finding.RemedyListener
	case errors.Is(err, unix.EACCES):
		found.Text = fmt.Sprintf("listen %s: this process may not listen at port %d", f.Listen, f.Listen.Port)
		found.Remedy = "choose a port from 1024 on, or give it CAP_NET_BIND_SERVICE"
	}
	return found
}

// holder returns the program that listens at an address, as "NAME (pid N)", or "another program" if this
// process may not see it.
func holder(at forward.Listen) string {
	all, err := system.Listeners()
	if err != nil {
		return "another program"
	}
	for _, other := range all {
		addr := other.Addr.Addr()
		if other.Addr.Port() == at.Port && (!at.Addr.IsValid() || addr == at.Addr || addr.IsUnspecified()) {
			if named := system.WithProcesses(other)[0]; named.Process != "" {
				return named.Process
			}
		}
	}
	return "another program"
}
