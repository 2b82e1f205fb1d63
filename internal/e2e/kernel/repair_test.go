package kernel

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/try/lab/labtest"
)

// repairForwards has a forward of every tracking. The last one has an address of its own, because it takes
// every port there.
const repairForwards = `
[[forward]]
name = "proxy"
listen = "192.168.5.2:2121"
server = "203.0.113.21"
[[forward]]
name = "kernel"
listen = "192.168.5.2:2122"
server = "203.0.113.21"
tracking = "kernel"
[[forward]]
name = "none"
listen = "192.168.5.3:2123"
server = "203.0.113.21"
tracking = "none"
server_ports = "10000-65535"
`

// Another program removes the table or a part of it: running transfers continue, a client that knows its port
// connects, and new sessions of every tracking are served. The log says what was missing, and who removed it.
func TestRepair(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	l := labtest.New(t)
	harness.AddAddress(t, l.Gateway(), "lan0", "192.168.5.3/24")
	admin := harness.StartAdminGateway(t, l, repairForwards)
	proxy := &harness.Testbed{Lab: l, T: t, Address: harness.Gateway4, Program: admin.Program,
		Listener: harness.Listen(t, l.Server(), harness.Server4)}
	kernel, none := *proxy, *proxy
	kernel.Address, none.Address = "192.168.5.2:2122", "192.168.5.3:2123"
	forwards := map[*harness.Testbed]netip.Addr{ // the address that the server announces
		proxy: {}, &kernel: {}, &none: netip.MustParseAddr("192.168.5.3")}
	for i, test := range []struct{ command, missing string }{
		{"flush ruleset", `differences="missing table inet ftpgate"`},
		{"flush table inet ftpgate", "differences=\"missing rule "},
		{"delete table inet ftpgate", `differences="missing table inet ftpgate"`},
		{"flush chain inet ftpgate forward; delete chain inet ftpgate forward",
			`differences="missing chain forward"`},
		{"flush chain inet ftpgate prerouting", "of chain prerouting"},
		{"flush map inet ftpgate control4", `differences="missing 2 elements of map control4"`},
		{"flush map inet ftpgate pinhole4", `differences="missing elements of map pinhole4"`},
	} {
		keepsNAT := !strings.Contains(test.missing, "missing table") ||
			!system.KernelBefore(system.KernelRelease(), 5, 12) // docs/limits.md
		wantRepair(t, forwards, keepsNAT, func() {
			harness.Shell(t, l.Gateway(), "nft %q", test.command)
			admin.AwaitLog("they are restored", i+1)
			admin.AwaitLog(test.missing, 1)
		})
	}
	if got := admin.LogCount(`by="nft (pid `); got != 7 {
		t.Errorf("got %d records that name nft(8); want 7", got)
	}
	harness.WantContains(t, admin.Output("status"), "7 repairs")
	admin.Signal(syscall.SIGHUP)
	admin.AwaitLog("msg=reloaded", 1)
	admin.Interrupt()
}

// wantRepair has another program harm the table while a transfer of each forward runs. keepsNAT: they go on.
func wantRepair(t *testing.T, forwards map[*harness.Testbed]netip.Addr, keepsNAT bool, harm func()) {
	t.Helper()
	var transfers []harness.Transfer
	var ended []<-chan error
	var ports []func()
	stop := make(chan struct{})
	for s, named := range forwards {
		b := s.Login().Retrieve(named)
		transfers = append(transfers, b)
		ended = append(ended, stream(b, stop))
		waiting := s.Login()
		data, at := waiting.Passive(named)
		clientAddr := waiting.Client.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
		ports = append(ports, func() {
			c, err := harness.DialFrom(t, s.Lab.Client(), clientAddr, at)
			if err != nil {
				t.Fatalf("%s: data connection to %s: %v", s.Address, at, err)
			}
			c.Close()
			harness.Accept(t, data).Close()
		})
	}
	harm()
	close(stop)
	for i, connect := range ports {
		connect()
		if err := <-ended[i]; err != nil && keepsNAT {
			t.Errorf("transfer through %s: %v", transfers[i].Testbed.Address, err)
		}
		transfers[i].Server.Send("226 complete")
		transfers[i].Client.Expect("226")
	}
	for s, named := range forwards {
		p := s.Login()
		p.Retrieve(named).Complete()
		p.Quit()
	}
}

// stream sends data from the server until stop is closed, ends the data connection, and compares what the
// client has received.
func stream(b harness.Transfer, stop <-chan struct{}) <-chan error {
	sent, received := make(chan error, 1), make(chan error, 1)
	sum, got := sha256.New(), sha256.New()
	part := harness.RandomBytes(16 << 10)
	go func() {
		var err error
		for running := true; running && err == nil; {
			select {
			case <-stop:
				running = false
			default:
			}
			sum.Write(part)
			_, err = b.ServerData.Write(part)
		}
		sent <- errors.Join(err, b.ServerData.Close())
	}()
	go func() {
		_, err := io.Copy(got, b.ClientData)
		err = errors.Join(err, b.ClientData.Close(), <-sent)
		if err == nil && !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
			err = errors.New("other bytes than were sent")
		}
		received <- err
	}()
	return received
}
