package daemon

import (
	"net/netip"
	"path/filepath"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/gateway/bans"
)

// bansFile returns where the bans of the daemon with a table are kept; empty: nowhere.
func bansFile(table string) string {
	dir := tlskeys.StateDir()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "bans-"+table+".json")
}

// ban has the first table, and the proxies, refuse the clients that were banned before and those that the
// configuration denies.
func (r *instance) ban(denied bans.Denied) error {
	r.bans.Load()
	_, err := r.bans.Deny(denied)
	return err
}

// endSessions ends the sessions of clients that are refused, and returns how many there were. Those that the
// kernel tracks end with their next packet. Any goroutine may call it.
func (r *instance) endSessions(refused func(netip.Addr) bool) (ended int) {
	for s := range r.sessionLog.Running() {
		if !refused(s.Client.Addr()) {
			continue
		}
		ended++
		if record := r.sessionLog.Find(s.ID); record != nil {
			_ = record.Kill() // it has ended, or the kernel tracks it
		}
	}
	return ended
}
