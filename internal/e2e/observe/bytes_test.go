package observe

import (
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// The byte count of a kernel-carried transfer is what the client received and sent, although packets
// are lost and pass the gateway twice. A transfer that the client aborts counts no more than was sent.
func TestExactBytes(t *testing.T) {
	labtest.Need(t, "nft")
	const lossy = `nft add table inet lossy
		nft add chain inet lossy input '{ type filter hook input priority 0; policy accept; }'
		nft add rule inet lossy input ip length '>' 1000 numgen random mod 30 0 drop`
	for _, tracking := range []string{"proxy", "kernel"} {
		t.Run(tracking, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			server := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
			s := harness.StartAdminGateway(t, l, fmt.Sprintf(harness.ForwardConfig+"tracking = %q\n", "files",
				harness.Gateway4, tracking))
			harness.Shell(t, l.Client(), "%s", lossy)
			harness.Shell(t, l.Server(), "%s", lossy)
			o := peers.RunClient(t, l.Client(), peers.Curl, server, peers.PASV, harness.Forward4.Listen)
			o.WantFiles(t, server)
			size := int64(len(peers.Content()))
			awaitExactBytes(s, peers.TransfersPerRun, size, size)

			c, err := l.Client().Dial(t.Context(), "tcp", harness.Gateway4)
			if err != nil {
				t.Fatal(err)
			}
			w := harness.NewControlConn(t, "the client", c)
			w.Expect("220 ")
			for _, step := range [][2]string{{"USER anonymous", "331 "}, {"PASS a@example.com", "230 "}} {
				w.Send("%s", step[0])
				w.Expect(step[1])
			}
			w.Send("PASV")
			data, err := l.Client().Dial(t.Context(), "tcp", harness.ParseHostPort(t,
				w.Expect("227 ")).String())
			if err != nil {
				t.Fatal(err)
			}
			w.Send("RETR %s", peers.DownloadPath)
			w.Expect("150 ")
			got, err := io.CopyN(io.Discard, data, size/2)
			if err != nil {
				t.Fatal(err)
			}
			data.Close()
			w.Expect("") // 226 if the server had sent everything before, 426 otherwise
			w.Send("QUIT")
			w.Expect("221 ")
			harness.Await(t, "the transfer that broke off",
				func() bool { return s.Status().Forwards[0].Down > size+got-1 })
			if down := s.Status().Forwards[0].Down; down > 3*size {
				t.Errorf("got %d bytes down; want %d at most", down, 3*size)
			}
		})
	}
}

// awaitExactBytes waits until all transfers have ended, and expects these sizes of files.
func awaitExactBytes(s *harness.AdminGateway, transfers int, up, down int64) {
	s.T.Helper()
	harness.Await(s.T, "all transfers over", func() bool {
		f := s.Status().Forwards[0]
		return f.Transfers+f.Failed == transfers
	})
	byBytes := map[int64]int{}
	for _, one := range harness.ReadTransferLog(s.T, s.TransferLog) {
		byBytes[one.Bytes]++
		if one.Bytes > up/2 && one.Bytes != up && one.Bytes != down {
			s.T.Errorf("got %+v; want %d or %d bytes", one, up, down)
		}
	}
	if byBytes[up]+byBytes[down] < 2 {
		s.T.Errorf("got transfers of %v bytes; want one up of %d and one down of %d", byBytes, up, down)
	}
}

// wantWithoutEnd expects the bytes of a data connection that runs, or that ftpgate cut: ftpgate saw no last
// segment of it. Over the kernel, what sender has sent again counts twice.
func wantWithoutEnd(t *testing.T, path string, sender net.Conn, got, want int64) {
	t.Helper()
	again := int64(0)
	if path == "kernel" {
		again = sentAgain(t, sender)
	}
	if got < want || got > want+again {
		t.Errorf("got %d bytes over the %s, with %d sent again; want %d", got, path, again, want)
	}
}

// sentAgain returns how many bytes this end of a connection has sent more than once (tcp(7), TCP_INFO).
func sentAgain(t *testing.T, c net.Conn) (n int64) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int64(info.Bytes_retrans)
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return n
}
