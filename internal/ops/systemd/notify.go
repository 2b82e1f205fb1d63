// Package notify speaks to the service manager: readiness, reloads, the end and the watchdog by
// sd_notify(3), and log records with their fields to journald.
//
// Where there is no service manager, everything here does nothing or leaves the log to the handler that
// the caller has. It never starts, stops or asks anything.
package systemd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready says that clients are served, and that a reload is over, whichever way it went.
func Ready() error { return send(daemon.SdNotifyReady) }

// Reloading says that a reload begins; Ready must follow. The time goes with it by which a manager with
// Type=notify-reload knows that this is the reload it asked for (systemd.service(5)).
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("notify: read the monotonic clock: %w", err)
	}
	return send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// stopMargin is how much longer than its transfers a daemon may take to end.
const stopMargin = 15 * time.Second

// Stopping says that the end has begun, and has the manager wait for transfers that may go on for drain,
// also where its TimeoutStopSec is shorter.
func Stopping(drain time.Duration) error {
	return send(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, (drain + stopMargin).Microseconds()))
}

// Status gives systemctl status one line to show. What breaks lines in text would be taken for more than
// its text, and becomes a space.
func Status(text string) error {
	return send("STATUS=" + strings.NewReplacer("\n", " ", "\r", " ", "\x00", " ").Replace(text))
}

// Watchdog tells the manager twice in each of its intervals (WATCHDOG_USEC) that the daemon is alive, for
// as long as alive says so, and returns when ctx is done. It returns at once where nobody watches. An
// alive that blocks is not alive. A message that does not arrive is followed by the next one: the
// manager draws the conclusion. The error is an interval that cannot be read.
func Watchdog(ctx context.Context, alive func() bool) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("notify: watchdog: %w", err)
	}
	if interval == 0 {
		return nil
	}
	ticker := time.NewTicker(interval / 2)
	defer ticker.Stop()
	for {
		if alive() {
			_ = send(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// send tells the manager a state, if there is one (NOTIFY_SOCKET).
func send(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify: tell the service manager: %w", err)
	}
	return nil
}
