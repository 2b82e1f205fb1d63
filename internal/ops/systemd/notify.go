// Package systemd notifies the service manager of readiness, reloads, the stop and the watchdog
// (sd_notify(3)), and sends log records with their fields to journald.
//
// Without a service manager it does nothing, and leaves the log to the caller's handler. It never starts,
// stops or queries anything.
//
// Locks: that of the journal, held for one record at a time.
package systemd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready reports that ftpgate serves clients, and that a reload is over, whatever its result.
func Ready() error { return send(daemon.SdNotifyReady) }

// Reloading reports that a reload begins; Ready must follow. It sends the time: a manager with
// Type=notify-reload recognises by it the reload that it asked for (systemd.service(5)).
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("systemd: read the monotonic clock: %w", err)
	}
	return send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// stopMargin is how much longer than its transfers a daemon may take to stop.
const stopMargin = 15 * time.Second

// Stopping reports that the stop has begun, and makes the manager wait for transfers for up to drain, even if
// its TimeoutStopSec is shorter.
func Stopping(drain time.Duration) error {
	return send(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping,
		(drain + stopMargin).Microseconds()))
}

// StartWatchdog runs Watchdog in a goroutine of its own until the function that it returns is called, which
// waits for the end. ended gets the result of Watchdog.
func StartWatchdog(ctx context.Context, alive func(context.Context) bool, ended func(error)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var pinging sync.WaitGroup
	pinging.Go(func() {
		ended(Watchdog(ctx, func() bool { return alive(ctx) }))
	})
	return func() {
		cancel()
		pinging.Wait()
	}
}

// Watchdog notifies the manager twice in each of its intervals (WATCHDOG_USEC) while alive returns true, and
// returns when ctx is done. Without a watchdog it returns at once. While alive blocks, no notification is
// sent. A lost message is not repeated: the next one follows. The error is an unreadable interval.
func Watchdog(ctx context.Context, alive func() bool) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("systemd: watchdog: %w", err)
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

// send sends a state to the manager, if there is one (NOTIFY_SOCKET).
func send(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("systemd: notify the service manager: %w", err)
	}
	return nil
}
