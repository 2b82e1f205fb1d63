package flows

import (
	"net/netip"
	"time"

	"ftpgate/internal/core/netflow"
)

// dataPort is the server's port of active data connections (RFC 959 section 3.2: that of control less one).
// Servers that care about their source port connect from it; the others use any, never the same twice.
const dataPort = 20

// ForgetEarlier makes the kernel forget an earlier connection from the server's port 20 to the same port of
// the client, if it is over. The kernel remembers it for two minutes (nf_conntrack_tcp_timeout_time_wait),
// and gives the new connection another source port meanwhile, because the client could not tell the two
// apart. Some clients use one port for all their transfers, and require port 20 of the server. Call it before
// the pinhole of an active transfer is open. After an error the connection has another source port.
//
// If the client closed first, the client remembers the earlier connection (TIME_WAIT). It would refuse the
// new one every other time: the server's sequence numbers and time stamps began for another port of the
// gateway's (tcp_timewait_state_process in net/ipv4/tcp_minisocks.c), and the pinhole does not wait for the
// second try. Then remembered is true: the relay makes that try.
func (x *Expectation) ForgetEarlier() (remembered bool) {
	w := x.watcher
	answers := netflow.Tuple{From: x.pinhole.Target, To: netip.AddrPortFrom(x.pinhole.SourceIP, dataPort)}
	found, err := w.table.Get(nil, []netflow.Tuple{answers})
	if err != nil || !found[0].State.Over() {
		return false
	}
	f := found[0]
	w.mu.Lock()
	earlier := w.active[endpointsOf(f.Original.From, f.Reply.From)]
	w.mu.Unlock()
	if earlier != nil {
		earlier.update(f, time.Now()) // its bytes
	}
	_ = w.table.Delete(f.Original, f.ID)
	return f.Closed
}
