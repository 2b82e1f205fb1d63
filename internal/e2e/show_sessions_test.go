package e2e

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

	"ftpgate/internal/try/lab/labtest"
)

// begin begins a transfer to the client in a mode.
func (p pair) begin(m mode) begun {
	p.t.Helper()
	switch m {
	case pasv:
		return p.retrieve(netip.Addr{})
	case port:
		return p.retrieveActive()
	case epsv:
		return p.retrieveExtended()
	}
	return p.retrieveActiveExtended()
}

// retrieveExtended is retrieve by EPSV (RFC 2428 section 3).
func (p pair) retrieveExtended() begun {
	p.t.Helper()
	data := listen(p.t, p.Server(), netip.AddrPortFrom(peerOfServer(p), 0).String())
	p.client.say("EPSV")
	p.server.hear("EPSV")
	p.server.say("229 Entering Extended Passive Mode (|||%d|)", portOf(data))
	fields := strings.Split(p.client.hear("229"), "|")
	if len(fields) != 5 {
		p.t.Fatalf("got the 229 %q", fields)
	}
	number, err := strconv.ParseUint(fields[3], 10, 16)
	if err != nil {
		p.t.Fatal(err)
	}
	at := netip.AddrPortFrom(peerOf(p.client), uint16(number))
	c, err := dialFrom(p.t, p.Client(), p.client.LocalAddr().(*net.TCPAddr).AddrPort().Addr(), at)
	if err != nil {
		p.t.Fatalf("data connection to %s: %v", at, err)
	}
	s := accept(p.t, data)
	p.ask("RETR file", "150 here it comes")
	return begun{p, s, c, at}
}

// retrieveActiveExtended is retrieveActive by EPRT (RFC 2428 section 2).
func (p pair) retrieveActiveExtended() begun {
	p.t.Helper()
	own := p.client.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	data := listen(p.t, p.Client(), netip.AddrPortFrom(own, 0).String())
	p.client.say("EPRT |1|%s|%d|", own, portOf(data))
	fields := strings.Split(p.server.hear("EPRT |1|"), "|")
	at, err := netip.ParseAddrPort(fields[2] + ":" + fields[3])
	if err != nil {
		p.t.Fatal(err)
	}
	p.server.say("200 fine")
	p.client.hear("200")
	p.client.say("RETR file")
	p.server.hear("RETR file")
	s, err := dialFrom(p.t, p.Server(), peerOfServer(p), at)
	if err != nil {
		p.t.Fatalf("data connection to %s: %v", at, err)
	}
	c := accept(p.t, data)
	p.server.say("150 here it comes")
	p.client.hear("150")
	return begun{p, s, c, at}
}

// peerOfServer is the server's own address.
func peerOfServer(p pair) netip.Addr {
	return p.server.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

func portOf(l net.Listener) uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }

// wantSoFar expects the bytes that a data path has carried until now: the kernel counts packets then, those that
// were sent twice among them.
func wantSoFar(t *testing.T, path string, got, want int64) {
	t.Helper()
	if path == "kernel" && got > want && got <= want+want/100 {
		return
	}
	wantBytes(t, "so far", path, got, want)
}

// wantBytes expects the bytes that a data path has carried.
func wantBytes(t *testing.T, what, path string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %d bytes over the %s; want %d", what, got, path, want)
	}
}

// A transfer is seen while it runs, in every mode and on either path, and what it has come to afterwards.
func TestShowTransferRuns(t *testing.T) {
	for path := range dataPaths {
		for _, m := range []mode{pasv, epsv, port, eprt} {
			t.Run(path+"/"+string(m), func(t *testing.T) {
				t.Parallel()
				st, s := newShownStage(t, fmt.Sprintf(oneForward+"data = %q\n", "files", gateway4, path))
				p := st.login()
				b := p.begin(m)
				const piece = 300_000
				b.carry(payload(piece))
				runs := func(atLeast int64) seen {
					return s.awaitSession(fmt.Sprintf("%d bytes so far", atLeast), func(one seen) bool {
						return one.Transfer != nil && one.Transfer.Bytes >= atLeast && one.Transfer.Rate > 0
					})
				}
				first := runs(piece)
				wantSoFar(t, path, first.Transfer.Bytes, piece)
				if first.State != "transfer" || first.Mode != string(m) || first.Path != path || first.User != "somebody" ||
					first.Forward != "files" || first.Tracking != "proxy" || first.TLS != (legs{}) || first.Server != server4 ||
					first.Client != p.client.LocalAddr().String() || first.Gateway != gateway4 {
					t.Errorf("got %+v", first)
				}
				if f := first.Transfer; f.Command != "RETR" || f.File != "file" || f.Direction != "download" || f.Session != first.ID || f.Complete {
					t.Errorf("got the transfer %+v", f)
				}
				b.carry(payload(piece))
				wantSoFar(t, path, runs(2*piece).Transfer.Bytes, 2*piece)
				if f := s.status().Forwards; len(f) != 1 || f[0].Sessions != 1 || f[0].Clients != 1 || f[0].Transfers != 0 || f[0].Path != path {
					t.Errorf("got the forwards %+v; want one with a session", f)
				}
				wantLines(t, s.answer("sessions"), first.ID, "  down ", " file\n", string(m), path)
				b.complete()
				s.wantEnd(p, first.ID, path, 2*piece+100_003)
			})
		}
	}
}

// wantEnd quits a session that has had one transfer to the client, and expects that everywhere.
func (s *shown) wantEnd(p pair, id, path string, bytes int64) {
	s.t.Helper()
	s.awaitSession("the transfer's end", func(one seen) bool { return one.Totals.Transfers == 1 && one.State == "idle" })
	p.quit()
	ended := s.awaitSession("its end", func(one seen) bool { return one.ID == id && one.State == "ended" }, "--ended")
	if ended.Transfer != nil || ended.Ended.IsZero() || ended.Verdict.Code != "fine" || ended.Totals.Failed+int(ended.Totals.Up) != 0 {
		s.t.Errorf("got %+v; want it ended well", ended)
	}
	wantBytes(s.t, "of the session", path, ended.Totals.Down, bytes)
	if n := len(s.sessions()); n != 0 {
		s.t.Errorf("got %d sessions that run; want none", n)
	}
	f := s.status().Forwards[0]
	if f.Transfers != 1 || f.Sessions != 0 || f.Down != ended.Totals.Down {
		s.t.Errorf("got the forward %+v; want one transfer of %d bytes", f, ended.Totals.Down)
	}
	s.interrupt()
	done := lines(s.t, s.transfers)
	if len(done) != 1 || done[0].Session != id || done[0].Bytes != ended.Totals.Down || !done[0].Complete || done[0].File != "file" || done[0].Path != path {
		s.t.Errorf("got the transfers %+v; want one of %s", done, id)
	}
}

// xferlogLine is what tools read: see xferlog(5).
var xferlogLine = regexp.MustCompile(`^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} \d+ 192\.168\.5\.1 (\d+) (\S+) [ab] _ ([io]) [ar] (\S+) ftp 0 \* c\n$`)

// Real clients and servers: what is told of a session afterwards is what the client got and sent.
func TestShowClients(t *testing.T) {
	a := newAuthority(t)
	pair := a.gateway()
	encrypted := fmt.Sprintf("[forward.tls]\nclient = \"required\"\ncert = %q\nkey = %q\n", pair.cert, pair.key)
	know := trust{ca: a.ca, believe: true}
	type visitor struct {
		client   client
		mode     mode
		settings string
		path     string
		tls      legs
	}
	visitors := map[string]visitor{
		"curl, TLS": {curlTLS(t, know), epsv, encrypted, "relay", legs{Client: "TLS 1.3"}},
		"lftp, TLS": {lftpTLS(t, know), pasv, encrypted, "relay", legs{Client: "TLS 1.3"}},
	}
	for path := range dataPaths {
		for _, m := range curl.v4 {
			visitors["curl, "+path+", "+string(m)] = visitor{curl, m, fmt.Sprintf("data = %q\n", path), path, legs{}}
		}
		visitors["lftp, "+path] = visitor{lftp, pasv, fmt.Sprintf("data = %q\n", path), path, legs{}}
	}
	for name, v := range visitors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			server := vsftpd(t, l.Server(), site4.server)
			s := newShown(t, l, fmt.Sprintf(oneForward, "files", gateway4)+v.settings)
			o := call(t, l.Client(), v.client, server, v.mode, site4.listen)
			o.files(t, server)
			s.wantVisit(v.mode, v.path, v.tls)
		})
	}
}

// wantVisit expects the sessions of a visit, and their three transfers.
func (s *shown) wantVisit(m mode, path string, tls legs) {
	s.t.Helper()
	var ended []seen
	until(s.t, "three transfers, and all sessions ended", func() bool {
		f := s.status().Forwards[0]
		ended = s.sessions("--ended")
		return f.Sessions == 0 && f.Transfers == transfers
	})
	size := int64(len(content()))
	var sum totals
	for _, one := range ended {
		if one.State != "ended" || one.User != "anonymous" || one.Mode != string(m) || one.Path != path || one.TLS != tls || one.Verdict.Code != "fine" {
			s.t.Errorf("got %+v; want mode %s, path %s, TLS %v, and nothing wrong", one, m, path, tls)
		}
		sum = totals{sum.Transfers + one.Totals.Transfers, sum.Failed + one.Totals.Failed, sum.Up + one.Totals.Up, sum.Down + one.Totals.Down}
		wantLines(s.t, s.text(), "session="+one.ID)
		wantLines(s.t, s.answer("explain", one.ID), one.ID, string(m))
	}
	if f := s.status().Forwards[0]; sum.Transfers != transfers || sum.Up != f.Up || sum.Down != f.Down || f.Total != len(ended) || f.Failed != 0 {
		s.t.Errorf("got the totals %+v and the forward %+v; want them to agree", sum, f)
	}
	s.interrupt()
	byCommand := map[string]int64{}
	for _, one := range lines(s.t, s.transfers) {
		if !slices.ContainsFunc(ended, func(e seen) bool { return e.ID == one.Session }) || one.Path != path || one.Mode != string(m) || !one.Complete || (one.TLS.Client == "") != (tls.Client == "") {
			s.t.Errorf("got the transfer %+v", one)
		}
		byCommand[one.Command] += one.Bytes
	}
	wantBytes(s.t, "RETR", path, byCommand["RETR"], size)
	wantBytes(s.t, "STOR", path, byCommand["STOR"], size)
	if len(byCommand) != transfers || sum.Up != byCommand["STOR"] || sum.Down != byCommand["RETR"]+byCommand["LIST"]+byCommand["NLST"] {
		s.t.Errorf("got %v in the log of transfers, %+v in all; want three that agree with it", byCommand, sum)
	}
	s.wantXferlog(byCommand)
}

// wantXferlog expects a file each way.
func (s *shown) wantXferlog(byCommand map[string]int64) {
	s.t.Helper()
	got := map[string]string{}
	for line := range strings.Lines(contents(s.t, s.xferlog)) {
		fields := xferlogLine.FindStringSubmatch(line)
		if fields == nil {
			s.t.Errorf("got the line %q in the xferlog; want its format", line)
			continue
		}
		got[fields[3]] = fields[1] + " " + filepath.Base(fields[2]) + " " + fields[4]
	}
	for direction, want := range map[string]string{
		"o": fmt.Sprintf("%d %s anonymous", byCommand["RETR"], filepath.Base(remoteFile)),
		"i": fmt.Sprintf("%d %s anonymous", byCommand["STOR"], filepath.Base(uploadFile)),
	} {
		if got[direction] != want {
			s.t.Errorf("in the xferlog got %q; want %q", got[direction], want)
		}
	}
}

// Sessions that the kernel tracks are found, with their data, and end when the client leaves.
func TestShowKernelTracked(t *testing.T) {
	t.Parallel()
	l := newLab(t, ":21")
	s := newShown(t, l, fmt.Sprintf(oneForward+"tracking = \"kernel\"\n", "plc", gateway4))
	c, err := dial(t, l.Client(), gateway4, ftp.DialWithDisabledEPSV(true))
	if err != nil {
		t.Fatal(err)
	}
	list(t, c)
	r, err := c.Retr(bigFile)
	if err != nil {
		t.Fatal(err)
	}
	const some = 1 << 20
	if _, err := io.ReadFull(r, make([]byte, some)); err != nil {
		t.Fatal(err)
	}
	one := s.awaitSession("a transfer", func(one seen) bool { return one.Transfer != nil && one.Transfer.Bytes > 0 && one.Transfer.Rate > 0 })
	if one.Tracking != "kernel" || one.Forward != "plc" || one.State != "transfer" || one.Path != "kernel" || one.Server != server4 || one.Mode == "" {
		t.Errorf("got %+v", one)
	}
	if _, stderr, status := s.ask("kill", one.ID); status != 1 || !strings.Contains(stderr, "tracked by the kernel") {
		t.Errorf("kill: got exit status %d, %q; want 1 and why", status, stderr)
	}
	r.Close() // which hangs up: the server has more than the connection holds
	list(t, c)
	idle := s.awaitSession("the end of three transfers", func(one seen) bool { return one.Transfer == nil && one.Totals.Transfers+one.Totals.Failed == 3 })
	if idle.ID != one.ID || idle.Totals.Down <= some {
		t.Errorf("got %+v; want %s with what was fetched", idle, one.ID)
	}
	if err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	s.awaitSession("its end", func(e seen) bool { return e.ID == one.ID && e.State == "ended" }, "--ended")
	if f := s.status().Forwards[0]; f.Sessions != 0 || f.Total != 1 {
		t.Errorf("got the forward %+v; want one session, which is over", f)
	}
}
