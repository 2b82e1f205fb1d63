package observe

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// logrotateConfig is the packaged configuration of logrotate, for logs in the test's directory with any
// owner, and with a signal that does not need systemd.
func logrotateConfig(t *testing.T, dir string, pid int) (file, state string) {
	t.Helper()
	text := harness.ReadFile(t, "../../../packaging/logrotate.d/ftpgate")
	for _, change := range [][2]string{
		{"/var/log/ftpgate/*.log", dir + "/*.log"},
		{"\tsu ftpgate ftpgate\n", ""},
		{"create 0640 ftpgate ftpgate", "create 0640"},
		{"[ -d /run/systemd/system ]", "true"},
		{"systemctl kill --kill-who=main --signal=SIGUSR1 ftpgate.service 2>/dev/null || true",
			fmt.Sprint("kill -USR1 ", pid)},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("the file of logrotate has not %q:\n%s", change[0], text)
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return harness.WriteFile(t, "logrotate.conf", text), filepath.Join(t.TempDir(), "state")
}

// restartWithLogs restarts ftpgate with its logs in a directory, under the names that logrotate
// expects.
func restartWithLogs(t *testing.T, s *harness.AdminGateway, dir, forwards string) {
	t.Helper()
	s.Interrupt()
	s.TransferLog, s.Xferlog = filepath.Join(dir, "transfers.log"), filepath.Join(dir, "xferlog.log")
	s.WriteConfig(t, forwards)
	s.Program = harness.Start(t, s.Host, "run", "-c", s.ConfigFile).AwaitReady()
}

// logrotate rotates the logs under load: each transfer is in them once.
func TestLogsRotated(t *testing.T) {
	labtest.Need(t, "logrotate")
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			of := peers.VSFTPD(t, l.Server(), harness.Forward4.Server, "max_clients=0", "max_per_ip=0")
			forward := fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files", harness.Gateway4, path)
			s := harness.StartAdminGateway(t, l, forward)
			dir := harness.ShortDir(t)
			restartWithLogs(t, s, dir, forward)
			file, state := logrotateConfig(t, dir, s.Cmd.Process.Pid)
			c := startLoad(t, l, harness.Gateway4, of, 8)
			const rotations = 4
			for n := range rotations {
				c.awaitMore(10)
				harness.Await(t, "lines to rotate", func() bool {
					return harness.ReadFile(t,
						s.TransferLog) != "" && harness.ReadFile(t, s.Xferlog) != ""
				})
				harness.Shell(t, s.Host, "logrotate --force --state %s %s", state, file)
				s.AwaitLog(`msg="transfer log reopened"`, n+1)
			}
			c.awaitMore(10)
			pairs := c.stop()
			harness.Await(t, "all counted",
				func() bool { return s.Status().Forwards[0].Transfers == 2*pairs })
			s.Interrupt()
			for _, log := range []string{s.TransferLog, s.Xferlog} {
				if all, err := filepath.Glob(log + "*"); err != nil || len(all) != rotations+1 {
					t.Errorf("got the logs %v, error %v; want %d", all, err, rotations+1)
				}
			}
			wantLoggedOnce(t, s, pairs)
		})
	}
}

// wantLoggedOnce expects these pairs of transfers once in each log, complete.
func wantLoggedOnce(t *testing.T, s *harness.AdminGateway, pairs int) {
	t.Helper()
	seen := map[string]int{}
	for line := range strings.Lines(readRotated(t, s.TransferLog)) {
		var one harness.TransferInfo
		harness.DecodeJSON(t, line, &one)
		if !one.Complete || one.Bytes != peers.StoredSize {
			t.Errorf("got the transfer %s; want it complete, with %d bytes", line, peers.StoredSize)
		}
		seen[one.Command+" "+one.File]++
	}
	other := map[string]int{}
	for line := range strings.Lines(readRotated(t, s.Xferlog)) {
		fields := xferlogPattern.FindStringSubmatch(line)
		if fields == nil {
			t.Errorf("got the line %q in the xferlog; want its format", line)
			continue
		}
		other[map[string]string{"i": "STOR ", "o": "RETR "}[fields[3]]+fields[2]]++
	}
	for what, n := range seen {
		if n != 1 || other[what] != 1 {
			t.Errorf("%s: got %d lines, and %d in the xferlog; want 1 each", what, n, other[what])
		}
	}
	if len(seen) != 2*pairs || len(other) != 2*pairs {
		t.Errorf("got %d transfers, and %d in the xferlog; want %d", len(seen), len(other), 2*pairs)
	}
}

// A transfer that the client aborts, or whose client disappears, is incomplete in both logs.
func TestLogsIncomplete(t *testing.T) {
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
				harness.Gateway4, path))
			p := st.Login()
			p.Retrieve(netip.Addr{}).Complete()
			b := p.Retrieve(netip.Addr{})
			b.Carry(harness.RandomBytes(50_000))
			p.Client.Send("ABOR")
			p.Server.Expect("ABOR")
			b.ServerData.Close()
			p.Server.Send("426 broken off")
			p.Client.Expect("426")
			p.Server.Send("226 aborted")
			p.Client.Expect("226")
			b.ClientData.Close()
			// Transfers of two sessions are logged in the order in which their bytes are counted.
			awaitTransfers(t, s, 2)
			gone := st.Login().RetrieveActive()
			gone.Carry(harness.RandomBytes(60_000))
			harness.Reset(t, gone.ClientData)
			harness.Reset(t, gone.Client.Conn)
			gone.Server.ExpectClose()
			awaitTransfers(t, s, 3)
			for i, one := range harness.ReadTransferLog(t, s.TransferLog) {
				if bytes := []int64{100_003, 50_000, 60_000}[i]; one.Complete != (i == 0) ||
					one.Bytes != bytes || (one.Verdict == "") != (i == 0) {
					t.Errorf("got the transfer %+v; want %d bytes, and the first complete alone", one, bytes)
				}
			}
			p.Quit()
			s.Interrupt()
			for i, line := range strings.Split(strings.TrimSuffix(harness.ReadFile(t, s.Xferlog), "\n"),
				"\n") {
				want := []string{" 100003 file a _ o r alice ftp 0 * c",
					" 50000 file a _ o r alice ftp 0 * i", " 60000 file a _ o r alice ftp 0 * i"}
				if i >= len(want) || !strings.HasSuffix(line, want[i]) {
					t.Errorf("line %d of the xferlog: got %q; want %q", i+1, line, want[min(i, 2)])
				}
			}
		})
	}
}

// awaitTransfers waits until so many transfers are in the log.
func awaitTransfers(t *testing.T, s *harness.AdminGateway, n int) {
	t.Helper()
	harness.Await(t, fmt.Sprintf("%d transfers in the log", n),
		func() bool { return strings.Count(harness.ReadFile(t, s.TransferLog), "\n") == n })
}

// A transfer that finishes just before the stop is logged.
func TestLogsAtTheEnd(t *testing.T) {
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
				harness.Gateway4, path))
			p := st.Login()
			p.Retrieve(netip.Addr{}).Complete()
			p.RetrieveActive().Complete()
			p.Quit()
			s.Interrupt()
			all := harness.ReadTransferLog(t, s.TransferLog)
			if len(all) != 2 || all[0].Bytes != 100_003 || all[1].Bytes != 100_003 || !all[0].Complete ||
				!all[1].Complete {
				t.Errorf("got the transfers %+v; want two of 100003 bytes", all)
			}
		})
	}
}

// A full disk disturbs no session. The log reports it, and continues when there is room again.
func TestLogsDiskFull(t *testing.T) {
	t.Parallel()
	forward := fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4)
	st, s := harness.NewAdminTestbed(t, forward)
	disk := harness.ShortDir(t)
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	restartWithLogs(t, s, disk, forward)
	p := st.Login()
	p.Retrieve(netip.Addr{}).Complete()
	harness.Await(t, "a line", func() bool { return len(harness.ReadTransferLog(t, s.TransferLog)) == 1 })

	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 128<<10), 0o600); err == nil {
		t.Fatal("the disk has room; want it full")
	}
	for range 30 { // fills the pages that the files have already
		p.Retrieve(netip.Addr{}).Complete()
	}
	s.AwaitLog(`msg="transfers are missing from the transfer log" file=`+s.TransferLog, 1)
	harness.WantContains(t, s.Log(),
		`err="write `+s.TransferLog+`: no space left on device" remedy="make room on its disk"`)
	if f := s.Status().Forwards[0]; f.Sessions != 1 || f.Failed != 0 {
		t.Errorf("got the forward %+v; want the session to go on", f)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	p.Retrieve(netip.Addr{}).Complete()
	s.AwaitLog(`msg="transfers are written to the transfer log again" file=`+s.TransferLog, 1)
	p.Quit()
	s.Interrupt()
	if n := len(harness.ReadTransferLog(t, s.TransferLog)); n < 2 || n > 31 {
		t.Errorf("got %d whole lines; want some, and some missing", n)
	}
}

// A missing directory is a fault at the start. One that disappears later disturbs nothing.
func TestLogsWithoutDirectory(t *testing.T) {
	t.Parallel()
	forward := fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4)
	st, s := harness.NewAdminTestbed(t, forward)
	dir := filepath.Join(harness.ShortDir(t), "log")
	s.Interrupt()
	s.TransferLog, s.Xferlog = filepath.Join(dir, "transfers.log"), filepath.Join(dir, "xferlog.log")
	s.WriteConfig(t, forward)
	_, stderr, status := harness.Run(t, s.Host, "run", "-c", s.ConfigFile)
	if status != 1 {
		t.Errorf("without the directory got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr, s.TransferLog+": no such file or directory", "make its directory",
		"1 fault, nothing has been changed")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.Program = harness.Start(t, s.Host, "run", "-c", s.ConfigFile).AwaitReady()
	p := st.Login()
	p.Retrieve(netip.Addr{}).Complete()
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	s.Signal(syscall.SIGUSR1)
	s.AwaitLog(`msg="transfer log not reopened"`, 1)
	harness.WantContains(t, s.Log(), "until then the file that was open is used")
	p.Retrieve(netip.Addr{}).Complete()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	before := filepath.Join(dir+".gone", "transfers.log")
	harness.Await(t, "both transfers where the file is now",
		func() bool { return len(harness.ReadTransferLog(t, before)) == 2 })
	s.Signal(syscall.SIGUSR1)
	s.AwaitLog(`msg="transfer log reopened"`, 1)
	p.Retrieve(netip.Addr{}).Complete()
	p.Quit()
	s.Interrupt()
	if all := harness.ReadTransferLog(t, before, s.TransferLog); len(all) != 3 {
		t.Errorf("got the transfers %+v; want three", all)
	}
}
