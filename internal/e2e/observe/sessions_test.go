package observe

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jlaffaye/ftp"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// startTransfer starts a download in a mode.
func startTransfer(p harness.Session, m peers.Mode) harness.Transfer {
	p.T.Helper()
	switch m {
	case peers.PASV:
		return p.Retrieve(netip.Addr{})
	case peers.PORT:
		return p.RetrieveActive()
	case peers.EPSV:
		return retrieveEPSV(p)
	}
	return retrieveEPRT(p)
}

// retrieveEPSV is Retrieve with EPSV (RFC 2428 section 3).
func retrieveEPSV(p harness.Session) harness.Transfer {
	p.T.Helper()
	data := harness.Listen(p.T, p.Lab.Server(), netip.AddrPortFrom(serverAddr(p), 0).String())
	p.Client.Send("EPSV")
	p.Server.Expect("EPSV")
	p.Server.Send("229 Entering Extended Passive Mode (|||%d|)", portOf(data))
	fields := strings.Split(p.Client.Expect("229"), "|")
	if len(fields) != 5 {
		p.T.Fatalf("got the 229 %q", fields)
	}
	number, err := strconv.ParseUint(fields[3], 10, 16)
	if err != nil {
		p.T.Fatal(err)
	}
	at := netip.AddrPortFrom(harness.PeerAddr(p.Client), uint16(number))
	c, err := harness.DialFrom(p.T, p.Lab.Client(), p.Client.LocalAddr().(*net.TCPAddr).AddrPort().Addr(), at)
	if err != nil {
		p.T.Fatalf("data connection to %s: %v", at, err)
	}
	s := harness.Accept(p.T, data)
	p.Exchange("RETR file", "150 here it comes")
	return harness.Transfer{Session: p, ServerData: s, ClientData: c, Address: at}
}

// retrieveEPRT is RetrieveActive with EPRT (RFC 2428 section 2).
func retrieveEPRT(p harness.Session) harness.Transfer {
	p.T.Helper()
	own := p.Client.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	data := harness.Listen(p.T, p.Lab.Client(), netip.AddrPortFrom(own, 0).String())
	p.Client.Send("EPRT |1|%s|%d|", own, portOf(data))
	fields := strings.Split(p.Server.Expect("EPRT |1|"), "|")
	at, err := netip.ParseAddrPort(fields[2] + ":" + fields[3])
	if err != nil {
		p.T.Fatal(err)
	}
	p.Server.Send("200 fine")
	p.Client.Expect("200")
	p.Client.Send("RETR file")
	p.Server.Expect("RETR file")
	s, err := harness.DialFrom(p.T, p.Lab.Server(), serverAddr(p), at)
	if err != nil {
		p.T.Fatalf("data connection to %s: %v", at, err)
	}
	c := harness.Accept(p.T, data)
	p.Server.Send("150 here it comes")
	p.Client.Expect("150")
	return harness.Transfer{Session: p, ServerData: s, ClientData: c, Address: at}
}

// serverAddr returns the server's own address.
func serverAddr(p harness.Session) netip.Addr {
	return p.Server.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

func portOf(l net.Listener) uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }

// wantBytes expects the bytes of a data path.
func wantBytes(t *testing.T, what, path string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %d bytes over the %s; want %d", what, got, path, want)
	}
}

// A running transfer is shown in every mode and on both paths, and its result afterwards.
func TestRunningTransfer(t *testing.T) {
	for path := range harness.DataPaths {
		for _, m := range []peers.Mode{peers.PASV, peers.EPSV, peers.PORT, peers.EPRT} {
			t.Run(path+"/"+string(m), func(t *testing.T) {
				t.Parallel()
				st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
					harness.Gateway4, path))
				p := st.Login()
				b := startTransfer(p, m)
				const piece = 300_000
				b.Carry(harness.RandomBytes(piece))
				runs := func(atLeast int64) harness.SessionInfo {
					return s.AwaitSession(fmt.Sprintf("%d bytes so far", atLeast),
						func(one harness.SessionInfo) bool {
							f := one.Transfer
							return f != nil && f.Bytes >= atLeast && f.Rate > 0
						})
				}
				first := runs(piece)
				if first.Totals.Down < piece || first.Totals.Transfers+first.Totals.Failed != 0 {
					t.Errorf("while it runs: got the totals %+v; want what came so far", first.Totals)
				}
				wantWithoutEnd(t, path, b.ServerData, first.Transfer.Bytes, piece)
				if first.State != "transfer" || first.Mode != string(m) || first.Path != path ||
					first.User != "alice" ||
					first.Forward != "files" || first.Tracking != "proxy" ||
					first.TLS != (harness.TLSInfo{}) || first.Server != harness.Server4 ||
					first.Client != p.Client.LocalAddr().String() || first.Gateway != harness.Gateway4 {
					t.Errorf("got %+v", first)
				}
				if f := first.Transfer; f.Command != "RETR" || f.File != "file" ||
					f.Direction != "download" || f.Session != first.ID || f.Complete {
					t.Errorf("got the transfer %+v", f)
				}
				b.Carry(harness.RandomBytes(piece))
				wantWithoutEnd(t, path, b.ServerData, runs(2*piece).Transfer.Bytes, 2*piece)
				if f := s.Status().Forwards; len(f) != 1 || f[0].Sessions != 1 || f[0].Clients != 1 ||
					f[0].Transfers != 0 || f[0].Path != path {
					t.Errorf("got the forwards %+v; want one with a session", f)
				}
				harness.WantContains(t, s.Output("sessions"), first.ID, "  down ", " file\n", string(m), path)
				b.Complete()
				wantOneTransfer(s, p, first.ID, path, 2*piece+100_003)
			})
		}
	}
}

// wantOneTransfer ends a session that has downloaded one file, and expects that transfer everywhere.
func wantOneTransfer(s *harness.AdminGateway, p harness.Session, id, path string, bytes int64) {
	s.T.Helper()
	s.AwaitSession("the transfer's end",
		func(one harness.SessionInfo) bool { return one.Totals.Transfers == 1 && one.State == "idle" })
	harness.Await(s.T, "its bytes", func() bool { return s.Status().Forwards[0].Transfers == 1 })
	p.Quit()
	ended := s.AwaitSession("its end", func(one harness.SessionInfo) bool {
		return one.ID == id &&
			one.State == "ended"
	}, "--ended")
	if ended.Transfer != nil || ended.Ended.IsZero() || ended.Verdict.Code != "fine" ||
		ended.Totals.Failed+int(ended.Totals.Up) != 0 {
		s.T.Errorf("got %+v; want it ended well", ended)
	}
	wantBytes(s.T, "of the session", path, ended.Totals.Down, bytes)
	if n := len(s.Sessions()); n != 0 {
		s.T.Errorf("got %d sessions that run; want none", n)
	}
	f := s.Status().Forwards[0]
	if f.Transfers != 1 || f.Sessions != 0 || f.Down != ended.Totals.Down {
		s.T.Errorf("got the forward %+v; want one transfer of %d bytes", f, ended.Totals.Down)
	}
	s.Interrupt()
	done := harness.ReadTransferLog(s.T, s.TransferLog)
	if len(done) != 1 || done[0].Session != id || done[0].Bytes != ended.Totals.Down || !done[0].Complete ||
		done[0].File != "file" || done[0].Path != path {
		s.T.Errorf("got the transfers %+v; want one of %s", done, id)
	}
}

// xferlogPattern is the format of xferlog(5).
var xferlogPattern = regexp.MustCompile(`^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} \d+ 192\.168\.5\.1 ` +
	`(\d+) (\S+) [ab] _ ([io]) [ar] (\S+) ftp 0 \* c\n$`)

// With real clients and servers, an ended session shows what the client received and sent.
func TestClients(t *testing.T) {
	a := harness.NewAuthority(t)
	pair := a.IssueGateway()
	encrypted := fmt.Sprintf("[forward.tls]\nclient = \"required\"\ncert = %q\nkey = %q\n", pair.CertFile,
		pair.KeyFile)
	options := peers.ClientTLS{CAFile: a.CAFile, UsePASVAddress: true}
	type clientRun struct {
		client   peers.Client
		mode     peers.Mode
		settings string
		path     string
		tls      harness.TLSInfo
	}
	runs := map[string]clientRun{
		"curl, TLS": {client: peers.CurlWithTLS(t, options), mode: peers.EPSV, settings: encrypted,
			path: "relay", tls: harness.TLSInfo{Client: "TLS 1.3"}},
		"lftp, TLS": {client: peers.LFTPWithTLS(t, options), mode: peers.PASV, settings: encrypted,
			path: "relay", tls: harness.TLSInfo{Client: "TLS 1.3"}},
	}
	for path := range harness.DataPaths {
		for _, m := range peers.Curl.Modes(harness.Forward4) {
			runs["curl, "+path+", "+string(m)] = clientRun{client: peers.Curl, mode: m,
				settings: fmt.Sprintf("data = %q\n", path), path: path, tls: harness.TLSInfo{}}
		}
		runs["lftp, "+path] = clientRun{client: peers.LFTP, mode: peers.PASV,
			settings: fmt.Sprintf("data = %q\n", path), path: path, tls: harness.TLSInfo{}}
	}
	for name, v := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			server := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
			s := harness.StartAdminGateway(t, l, fmt.Sprintf(harness.ForwardConfig, "files",
				harness.Gateway4)+v.settings)
			o := peers.RunClient(t, l.Client(), v.client, server, v.mode, harness.Forward4.Listen)
			o.WantFiles(t, server)
			wantClientRun(s, v.mode, v.path, v.tls)
		})
	}
}

// wantClientRun expects the sessions of a client's task, and its three transfers.
func wantClientRun(s *harness.AdminGateway, m peers.Mode, path string, tls harness.TLSInfo) {
	s.T.Helper()
	var ended []harness.SessionInfo
	harness.Await(s.T, "three transfers, and all sessions ended", func() bool {
		f := s.Status().Forwards[0]
		ended = s.Sessions("--ended")
		return f.Sessions == 0 && f.Transfers == peers.TransfersPerRun
	})
	size := int64(len(peers.Content()))
	var sum harness.Totals
	for _, one := range ended {
		if one.State != "ended" || one.User != "anonymous" || one.Mode != string(m) || one.Path != path ||
			one.TLS != tls || one.Verdict.Code != "fine" {
			s.T.Errorf("got %+v; want mode %s, path %s, TLS %v, and nothing wrong", one, m, path, tls)
		}
		sum = harness.Totals{Transfers: sum.Transfers + one.Totals.Transfers,
			Failed: sum.Failed + one.Totals.Failed, Up: sum.Up + one.Totals.Up,
			Down: sum.Down + one.Totals.Down}
		harness.WantContains(s.T, s.Log(), "session="+one.ID)
		harness.WantContains(s.T, s.Output("explain", one.ID), one.ID, string(m))
	}
	if f := s.Status().Forwards[0]; sum.Transfers != peers.TransfersPerRun || sum.Up != f.Up ||
		sum.Down != f.Down || f.Total != len(ended) || f.Failed != 0 {
		s.T.Errorf("got the totals %+v and the forward %+v; want them to agree", sum, f)
	}
	s.Interrupt()
	byCommand := map[string]int64{}
	for _, one := range harness.ReadTransferLog(s.T, s.TransferLog) {
		if !slices.ContainsFunc(ended, func(e harness.SessionInfo) bool { return e.ID == one.Session }) ||
			one.Path != path || one.Mode != string(m) || !one.Complete ||
			(one.TLS.Client == "") != (tls.Client == "") {
			s.T.Errorf("got the transfer %+v", one)
		}
		byCommand[one.Command] += one.Bytes
	}
	wantBytes(s.T, "RETR", path, byCommand["RETR"], size)
	wantBytes(s.T, "STOR", path, byCommand["STOR"], size)
	if len(byCommand) != peers.TransfersPerRun || sum.Up != byCommand["STOR"] ||
		sum.Down != byCommand["RETR"]+byCommand["LIST"]+byCommand["NLST"] {
		s.T.Errorf("got %v in the transfer log, %+v in all; want three that agree with it", byCommand,
			sum)
	}
	wantXferlog(s, byCommand)
}

// wantXferlog expects a file in each direction.
func wantXferlog(s *harness.AdminGateway, byCommand map[string]int64) {
	s.T.Helper()
	got := map[string]string{}
	for line := range strings.Lines(harness.ReadFile(s.T, s.Xferlog)) {
		fields := xferlogPattern.FindStringSubmatch(line)
		if fields == nil {
			s.T.Errorf("got the line %q in the xferlog; want its format", line)
			continue
		}
		got[fields[3]] = fields[1] + " " + filepath.Base(fields[2]) + " " + fields[4]
	}
	for direction, want := range map[string]string{
		"o": fmt.Sprintf("%d %s anonymous", byCommand["RETR"], filepath.Base(peers.DownloadPath)),
		"i": fmt.Sprintf("%d %s anonymous", byCommand["STOR"], filepath.Base(peers.UploadPath)),
	} {
		if got[direction] != want {
			s.T.Errorf("in the xferlog got %q; want %q", got[direction], want)
		}
	}
}

// Sessions with tracking by the kernel are shown with their data, and end when the client leaves.
func TestKernelTracking(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	s := harness.StartAdminGateway(t, l, fmt.Sprintf(harness.ForwardConfig+"tracking = \"kernel\"\n", "plc",
		harness.Gateway4))
	c, err := peers.DialFTP(t, l.Client(), harness.Gateway4, ftp.DialWithDisabledEPSV(true))
	if err != nil {
		t.Fatal(err)
	}
	peers.List(t, c)
	r, err := c.Retr(peers.LargeFile)
	if err != nil {
		t.Fatal(err)
	}
	const some = 1 << 20
	if _, err := io.ReadFull(r, make([]byte, some)); err != nil {
		t.Fatal(err)
	}
	one := s.AwaitSession("a transfer", func(one harness.SessionInfo) bool {
		return one.Transfer != nil && one.Transfer.Bytes > 0 && one.Transfer.Rate > 0
	})
	if one.Tracking != "kernel" || one.Forward != "plc" || one.State != "transfer" || one.Path != "kernel" ||
		one.Server != harness.Server4 || one.Mode == "" {
		t.Errorf("got %+v", one)
	}
	if _, stderr, status := s.Run("kill", one.ID); status != 1 ||
		!strings.Contains(stderr, "tracked by the kernel") {
		t.Errorf("kill: got exit status %d, %q; want 1 and why", status, stderr)
	}
	r.Close() // hangs up: the server has more than the connection buffers
	peers.List(t, c)
	idle := s.AwaitSession("the end of three transfers", func(one harness.SessionInfo) bool {
		return one.Transfer == nil && one.Totals.Transfers+one.Totals.Failed == 3
	})
	if idle.ID != one.ID || idle.Totals.Down <= some {
		t.Errorf("got %+v; want %s with what was fetched", idle, one.ID)
	}
	if err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	s.AwaitSession("its end", func(e harness.SessionInfo) bool {
		return e.ID == one.ID &&
			e.State == "ended"
	}, "--ended")
	if f := s.Status().Forwards[0]; f.Sessions != 0 || f.Total != 1 {
		t.Errorf("got the forward %+v; want one session, which is over", f)
	}
	s.Interrupt()
	harness.WantContains(t, s.Log(), fmt.Sprintf(`sessions=1 transfers=%d failed=%d`, idle.Totals.Transfers,
		idle.Totals.Failed))
}
