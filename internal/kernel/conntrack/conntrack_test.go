package conntrack_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/conntrack"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// accounting returns a host with counters and events switched on.
func accounting(t testing.TB) *lab.Host {
	t.Helper()
	h := labtest.Host(t)
	sysctl(t, h, "net.netfilter.nf_conntrack_acct", "1")
	sysctl(t, h, "net.netfilter.nf_conntrack_events", "1")
	return h
}

// numbered returns a different tuple for each number; every fourth is IPv6.
func numbered(i int) netflow.Tuple {
	from, to := netip.AddrFrom4([4]byte{10, byte(i / 60000), 0, 1}), netip.MustParseAddr("203.0.113.21")
	if i%4 == 3 {
		from, to = netip.MustParseAddr("2001:db8:5::1"), netip.MustParseAddr("2001:db8:113::21")
	}
	return netflow.Tuple{From: netip.AddrPortFrom(from, uint16(1024+i%60000)), To: netip.AddrPortFrom(to, 21)}
}

// fill adds count flows to the table.
func fill(t testing.TB, c *conntrack.Conn, count int) []netflow.Tuple {
	t.Helper()
	tuples := make([]netflow.Tuple, count)
	for i := range tuples {
		tuples[i] = numbered(i)
		if err := c.Create(tuples[i]); err != nil {
			t.Fatal(err)
		}
	}
	return tuples
}

// Get returns flows of both families in the order of their tuples, of either direction, with a zero Flow for
// each that is gone.
func TestGet(t *testing.T) {
	c := open(t, accounting(t))
	tuples := fill(t, c, 3*conntrack.PerRound+5)
	asked := slices.Clone(tuples)
	gone := map[int]netflow.Tuple{
		0:                  tuple("192.0.2.1:1", "192.0.2.2:2"),
		5:                  {},
		conntrack.PerRound: {From: tuples[0].From, To: tuples[3].To},
		len(asked) - 1:     tuple("[2001:db8::1]:1", "[2001:db8::2]:2"),
	}
	reply := conntrack.PerRound * 2
	asked[reply] = netflow.Tuple{From: tuples[reply].To, To: tuples[reply].From} // of the answers
	for i, t := range gone {
		asked[i] = t
	}
	mapped := 9
	from := asked[mapped].From
	asked[mapped].From = netip.AddrPortFrom(netip.AddrFrom16(from.Addr().As16()), from.Port())
	before := []netflow.Flow{{ID: 7}}
	flows, err := c.Get(before, asked)
	if err != nil {
		t.Fatal(err)
	}
	if len(flows) != 1+len(asked) || flows[0].ID != 7 {
		t.Fatalf("got %d flows, %v first; want %d after the one that was there",
			len(flows), flows[0], len(asked))
	}
	for i, f := range flows[1:] {
		want := tuples[i]
		if _, no := gone[i]; no {
			if f != (netflow.Flow{}) {
				t.Errorf("flow %d: got %+v; want none", i, f)
			}
			continue
		}
		if f.Original != want || f.Reply != (netflow.Tuple{From: want.To, To: want.From}) || f.ID == 0 ||
			f.State != netflow.TCPEstablished {
			t.Errorf("flow %d: got %+v; want the one from %s", i, f, want.From)
		}
	}
}

// Get asks again for answers that did not fit into the socket's buffer.
func TestGetWithASmallBuffer(t *testing.T) {
	c := open(t, accounting(t))
	tuples := fill(t, c, conntrack.PerRound)
	if err := c.ShrinkBuffer(1); err != nil {
		t.Fatal(err)
	}
	flows, err := c.Get(nil, tuples)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range flows {
		if f.Original != tuples[i] {
			t.Errorf("flow %d: got %+v; want the one from %s", i, f, tuples[i].From)
		}
	}
}

// All methods may run at the same time.
func TestAtOnce(t *testing.T) {
	c := open(t, accounting(t))
	tuples := fill(t, c, 200)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			own := tuples[50*i : 50*i+50]
			flows, err := c.Get(nil, own)
			for j, f := range flows {
				if err != nil || f.Original != own[j] {
					t.Errorf("flow %d: got %+v, %v", j, f, err)
					continue
				}
				if err := c.Delete(own[j], f.ID); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for _, err := range c.Dump(nil) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for f := range c.Dump(nil) {
		t.Errorf("got %+v; want no flow left", f)
	}
}

// A dump lists all wanted TCP flows, and no others.
func TestDump(t *testing.T) {
	h := accounting(t)
	c := open(t, h)
	tuples := fill(t, c, 1000)
	datagram(t, h)
	got := map[netflow.Tuple]bool{}
	for f, err := range c.Dump(nil) {
		if err != nil {
			t.Fatal(err)
		}
		got[f.Original] = f.State == netflow.TCPEstablished && f.ID != 0 && !got[f.Original]
	}
	for _, want := range tuples {
		if !got[want] {
			t.Errorf("the flow from %s: got none, two, or no state; want it once", want.From)
		}
	}
	if len(got) != len(tuples) {
		t.Errorf("got %d flows; want %d", len(got), len(tuples))
	}
	for range c.Dump(nil) { // a caller may stop early
		break
	}
	wanted := 0
	for f := range c.Dump(func(original, _ netflow.Tuple) bool { return original == tuples[17] }) {
		if wanted++; f.Original != tuples[17] {
			t.Errorf("got %+v; want only the wanted flow", f)
		}
	}
	if wanted != 1 {
		t.Errorf("got %d wanted flows; want 1", wanted)
	}
}

// datagram makes a UDP flow in the host's namespace. It adds a rule, so that conntrack follows packets on lo.
func datagram(t *testing.T, h *lab.Host) {
	t.Helper()
	labtest.Need(t, "nft")
	nft(t, h, `table inet look { chain input { type filter hook input priority 0; ct state new accept; }; }`)
	var c net.Conn
	if err := h.Do(func() (err error) { c, err = net.Dial("udp", "127.0.0.1:9"); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}

// Delete removes a flow, but no other flow with the same tuple.
func TestDelete(t *testing.T) {
	c := open(t, accounting(t))
	tuples := fill(t, c, 4)
	for _, original := range tuples {
		id := one(t, c, original).ID
		if err := c.Delete(original, id+1); err != nil {
			t.Error(err)
		}
		if f := one(t, c, original); f.ID != id {
			t.Errorf("after deleting another: got %+v; want the flow", f)
		}
		for range 2 {
			if err := c.Delete(original, id); err != nil {
				t.Error(err)
			}
		}
		if f := one(t, c, original); f != (netflow.Flow{}) {
			t.Errorf("got %+v after Delete; want none", f)
		}
	}
	if err := c.Delete(netflow.Tuple{}, 0); err != nil {
		t.Errorf("delete no flow: %v", err)
	}
}

// After Close every method fails with os.ErrClosed.
func TestClosed(t *testing.T) {
	c := open(t, accounting(t))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(nil, []netflow.Tuple{numbered(0)}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Get: got %v; want %v", err, os.ErrClosed)
	}
	if err := c.Delete(numbered(0), 1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Delete: got %v; want %v", err, os.ErrClosed)
	}
	for _, err := range c.Dump(nil) {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("Dump: got %v; want %v", err, os.ErrClosed)
		}
	}
}

// Without CAP_NET_ADMIN the kernel's refusal is the error.
func TestRefused(t *testing.T) {
	c := open(t, accounting(t))
	err := withoutRights(func() error { _, err := c.Get(nil, []netflow.Tuple{numbered(0)}); return err })
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("Get: got %v; want %v", err, unix.EPERM)
	}
}

// announce greets an FTP client, and answers one command with a passive port of the server. (The helper reads
// a line only after it has seen the end of another.)
func announce(port int) func(net.Conn) error {
	return func(c net.Conn) error {
		if _, err := io.WriteString(c, "220 Hello.\r\n"); err != nil {
			return err
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			return err
		}
		host := strings.ReplaceAll(lab.ServerAddr4.String(), ".", ",")
		reply := fmt.Sprintf("227 Entering Passive Mode (%s,%d,%d).\r\n", host, port>>8, port&255)
		if _, err := io.WriteString(c, reply); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, c)
		return err
	}
}

// The data connection that the kernel's helper has read of on a control connection has that control
// connection as its master.
func TestHelper(t *testing.T) {
	l := router(t)
	c := open(t, l.Gateway())
	events := watch(t, l.Gateway(), nil, netflow.FlowNew, netflow.FlowUpdated, netflow.FlowGone)
	data := listen(t, l.Server(), "203.0.113.21:0")
	port := data.Addr().(*net.TCPAddr).Port
	serve(t, data, func(c net.Conn) error { _, err := io.Copy(io.Discard, c); return err })
	serve(t, listen(t, l.Server(), "203.0.113.21:21"), announce(port))

	control := dial(t, l.Client(), "192.168.5.2:2121")
	master := tupleOf(control)
	opened := await(t, events, "the control connection is new",
		func(e netflow.FlowEvent) bool { return e.Change == netflow.FlowNew })
	if f := opened.Flow; f.Original != master || f.Master != (netflow.Tuple{}) ||
		f.ID == 0 || opened.At.IsZero() {
		t.Errorf("control connection: got %+v; want %+v without a master", f, master)
	}
	if f := opened.Flow; f.Reply.From != netip.MustParseAddrPort("203.0.113.21:21") ||
		f.Reply.To.Addr() != lab.GatewayWAN4 {
		t.Errorf("control connection: got reply %+v; want it from the server to the gateway", f.Reply)
	}
	replies := bufio.NewReader(control)
	if _, err := replies.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(control, "PASV\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := replies.ReadString('\n')
	if err != nil || !strings.Contains(line, "192,168,5,2") {
		t.Fatalf("got %q, %v; want the gateway's address", line, err)
	}
	var high, low int
	if _, err := fmt.Sscanf(line, "227 Entering Passive Mode (192,168,5,2,%d,%d)", &high, &low); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	transfer := dial(t, l.Client(), fmt.Sprintf("192.168.5.2:%d", high<<8+low))
	original := tupleOf(transfer)
	began := await(t, events, "the data connection is new", func(e netflow.FlowEvent) bool {
		return e.Change == netflow.FlowNew && e.Flow.Original == original
	})
	if f := began.Flow; f.Master != master ||
		f.Reply.From != netip.AddrPortFrom(lab.ServerAddr4, uint16(port)) {
		t.Errorf("data connection: got %+v; want master %+v", f, master)
	}
	if f := one(t, c, original); f.Master != master || f.State != netflow.TCPEstablished || !f.Replied ||
		f.ID != began.Flow.ID {
		t.Errorf("looked up: got %+v; want master %+v, established", f, master)
	}
	checkEnd(t, c, events, transfer, began.Flow.ID)
}

// checkEnd sends data, closes the data connection and deletes its flow. Both are events.
func checkEnd(t *testing.T, c *conntrack.Conn, events <-chan netflow.FlowEvent, transfer net.Conn,
	id uint32) {
	t.Helper()
	original := tupleOf(transfer)
	if _, err := transfer.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	transfer.Close()
	last := await(t, events, "the data connection is over", over(original))
	if last.Change != netflow.FlowUpdated || last.Flow.ID != id {
		t.Errorf("got %+v; want an update of flow %d", last, id)
	}
	if err := c.Delete(original, id); err != nil {
		t.Fatal(err)
	}
	gone := await(t, events, "the data connection is gone", func(e netflow.FlowEvent) bool {
		return e.Change == netflow.FlowGone && e.Flow.Original == original
	})
	if sent, _, exact := conntrack.Payload(gone.Flow); sent != 1000 || !exact || gone.Flow.ID != id {
		t.Errorf("got %+v, %d bytes, exact %v; want 1000 and the counters of flow %d",
			gone.Flow, sent, exact, id)
	}
}

// Find names flows by everything but their source port, and the kernel leaves out the others.
func TestFind(t *testing.T) {
	c := open(t, accounting(t))
	fill(t, c, 40)
	for i, tt := range []struct {
		from, to string
		want     int
	}{
		{"10.0.0.1", "203.0.113.21:21", 30},
		{"::ffff:10.0.0.1", "203.0.113.21:21", 30},
		{"2001:db8:5::1", "[2001:db8:113::21]:21", 10},
		{"10.0.0.1", "203.0.113.21:22", 0},
		{"10.0.0.2", "203.0.113.21:21", 0},
		{"2001:db8:5::2", "[2001:db8:113::21]:21", 0},
		{"10.0.0.1", "[2001:db8:113::21]:21", 0},
	} {
		from, to := netip.MustParseAddr(tt.from), netip.MustParseAddrPort(tt.to)
		found, err := c.Find(from, to)
		if err != nil || len(found) != tt.want {
			t.Errorf("from %s to %s: got %d flows, %v; want %d", tt.from, tt.to, len(found), err, tt.want)
		}
		for _, f := range found {
			if f.Original.From.Addr() != from.Unmap() || f.Original.To != to {
				t.Errorf("from %s to %s: got %+v", tt.from, tt.to, f)
			}
		}
		if n, err := c.Filtered(from.Unmap(), to); i < 5 && (err != nil || n != tt.want) {
			t.Errorf("from %s to %s: the kernel lists %d flows, %v; want %d", tt.from, tt.to, n, err, tt.want)
		}
	}
}
