// Package nftwatch reports other programs' changes of nftables, from the kernel's notifications
// (NFNLGRP_NFTABLES). It changes nothing, and it does not know what a table should hold.
//
// The changes of this process are not reported, and do not wake it: the kernel compares the port ID of each
// notification (netlink.OwnPortIDs). A pinhole is a change, and a busy gateway makes thousands of them.
package nftwatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"ftpgate/internal/kernel/netlink"
)

// buffer is the size of a watcher's buffer in the kernel, in bytes, if the kernel allows it. A ruleset with
// ten thousand rules that is flushed fits; if more arrives at once, Change.Lost is set.
const buffer = 4 << 20

// Change is what another program has changed in a table, in one transaction.
type Change struct {
	Program string   // its name in the kernel, such as "nft"; empty: unknown
	PID     int      // of its thread, in the initial PID namespace; 0: unknown
	Emptied []string // sets and maps that lost elements, sorted
	Lost    bool     // notifications were lost: anything may have changed
}

// Watcher receives the notifications about one table since Subscribe.
type Watcher struct {
	conn  *mdlayher.Conn
	table string
}

// Subscribe begins to receive notifications in the network namespace that it is called in. It needs
// CAP_NET_ADMIN. The caller closes the watcher.
func Subscribe(table string) (*Watcher, error) {
	conn, err := mdlayher.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nftables notifications: open netlink: %w", err)
	}
	w := &Watcher{conn, table}
	if err := w.subscribe(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("nftables notifications: %w", err)
	}
	return w, nil
}

func (w *Watcher) subscribe() error {
	if err := w.conn.SetReadBuffer(buffer); err != nil {
		return err
	}
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = ignoreOwn(int(fd)) }); cerr != nil || err != nil {
		return errors.Join(cerr, err)
	}
	return w.conn.JoinGroup(unix.NFNLGRP_NFTABLES)
}

// Close ends the subscription. Run has returned.
func (w *Watcher) Close() error { return w.conn.Close() }

// Run calls deliver for each change of the table by another program, until ctx is done. It returns nil then.
func (w *Watcher) Run(ctx context.Context, deliver func(Change)) error {
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var t transaction
	for {
		messages, err := w.conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			t = transaction{}
			deliver(Change{Lost: true})
			continue
		case err != nil:
			return fmt.Errorf("nftables notifications: %w", os.NewSyscallError("recvmsg", netlink.Errno(err)))
		}
		for _, m := range messages {
			if change, complete := t.add(m, w.table); complete {
				deliver(change)
			}
		}
	}
}

// transaction collects what one transaction changes in the table. The kernel sends the notifications of a
// transaction without those of others in between, and NFT_MSG_NEWGEN as the last
// (nf_tables_commit in net/netfilter/nf_tables_api.c).
type transaction struct {
	touched bool
	emptied []string
}

// tableAttr is the type of the attribute that names the table, in each message that is about an object:
// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE,
// NFTA_OBJ_TABLE.
const tableAttr = 1

// add adds a notification, and returns the change if the transaction is complete and has changed the table.
func (t *transaction) add(m mdlayher.Message, table string) (change Change, complete bool) {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < netlink.NetfilterLen {
		return Change{}, false
	}
	family, attrs := m.Data[0], m.Data[netlink.NetfilterLen:]
	switch kind := uint16(m.Header.Type & 0xff); {
	case kind == unix.NFT_MSG_NEWGEN:
		done := *t
		*t = transaction{}
		slices.Sort(done.emptied)
		return Change{
			Program: string(netlink.Text(netlink.Find(attrs, unix.NFTA_GEN_PROC_NAME))),
			PID:     int(netlink.Uint32(netlink.Find(attrs, unix.NFTA_GEN_PROC_PID))),
			Emptied: slices.Compact(done.emptied),
		}, done.touched
	case family != unix.NFPROTO_INET || string(netlink.Text(netlink.Find(attrs, tableAttr))) != table:
	case kind == unix.NFT_MSG_DELSETELEM:
		t.touched = true
		set := string(netlink.Text(netlink.Find(attrs, unix.NFTA_SET_ELEM_LIST_SET)))
		if len(t.emptied) == 0 || t.emptied[len(t.emptied)-1] != set {
			t.emptied = append(t.emptied, set)
		}
	default:
		t.touched = true
	}
	return Change{}, false
}
