package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab/labtest"
)

// rotation is the packaged file of logrotate for logs in a directory of the test's own, which are given to nobody,
// and with another way to ftpgate than by systemd.
func rotation(t *testing.T, dir string, pid int) (file, state string) {
	t.Helper()
	text := contents(t, "../../packaging/logrotate.d/ftpgate")
	for _, change := range [][2]string{
		{"/var/log/ftpgate/*.log", dir + "/*.log"},
		{"\tsu ftpgate ftpgate\n", ""},
		{"create 0640 ftpgate ftpgate", "create 0640"},
		{"[ -d /run/systemd/system ]", "true"},
		{"systemctl kill --kill-who=main --signal=SIGUSR1 ftpgate.service 2>/dev/null || true", fmt.Sprint("kill -USR1 ", pid)},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("the file of logrotate has not %q:\n%s", change[0], text)
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return writeFile(t, "logrotate.conf", text), filepath.Join(t.TempDir(), "state")
}

// logged runs ftpgate with logs of transfers by the names that logrotate looks for, in a directory of their own.
func logged(t *testing.T, s *shown, dir, forwards string) {
	t.Helper()
	s.interrupt()
	s.transfers, s.xferlog = filepath.Join(dir, "transfers.log"), filepath.Join(dir, "xferlog.log")
	s.configure(t, forwards)
	s.program = start(t, s.host, "run", "-c", s.file).ready()
}

// Rotated by logrotate while many clients work, the logs have each transfer once.
func TestShowLogsRotated(t *testing.T) {
	labtest.Need(t, "logrotate")
	for path := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			of := vsftpd(t, l.Server(), site4.server, "max_clients=0", "max_per_ip=0")
			forward := fmt.Sprintf(oneForward+"data = %q\n", "files", gateway4, path)
			s := newShown(t, l, forward)
			dir := shortDir(t)
			logged(t, s, dir, forward)
			file, state := rotation(t, dir, s.cmd.Process.Pid)
			c := newCrew(t, l, gateway4, of, 8)
			const rotations = 4
			for n := range rotations {
				c.more(10)
				until(t, "lines to rotate", func() bool { return contents(t, s.transfers) != "" && contents(t, s.xferlog) != "" })
				sh(t, s.host, "logrotate --force --state %s %s", state, file)
				s.await(`msg="log of transfers reopened"`, n+1)
			}
			c.more(10)
			pairs := c.home()
			until(t, "all counted", func() bool { return s.status().Forwards[0].Transfers == 2*pairs })
			s.interrupt()
			for _, log := range []string{s.transfers, s.xferlog} {
				if all, err := filepath.Glob(log + "*"); err != nil || len(all) != rotations+1 {
					t.Errorf("got the logs %v, error %v; want %d", all, err, rotations+1)
				}
			}
			wantOnce(t, s, pairs)
		})
	}
}

// wantOnce expects each of so many pairs of transfers once in both logs, complete.
func wantOnce(t *testing.T, s *shown, pairs int) {
	t.Helper()
	seen := map[string]int{}
	for line := range strings.Lines(rotated(t, s.transfers)) {
		var one moved
		decode(t, line, &one)
		if !one.Complete || one.Bytes != crowdFile {
			t.Errorf("got the transfer %s; want it complete, with %d bytes", line, crowdFile)
		}
		seen[one.Command+" "+one.File]++
	}
	other := map[string]int{}
	for line := range strings.Lines(rotated(t, s.xferlog)) {
		fields := xferlogLine.FindStringSubmatch(line)
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

// A transfer that is called off, or whose client goes away, stands in both logs, as what it is.
func TestShowLogsIncomplete(t *testing.T) {
	for path := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			st, s := newShownStage(t, fmt.Sprintf(oneForward+"data = %q\n", "files", gateway4, path))
			p := st.login()
			p.retrieve(netip.Addr{}).complete()
			b := p.retrieve(netip.Addr{})
			b.carry(payload(50_000))
			p.client.say("ABOR")
			p.server.hear("ABOR")
			b.from.Close()
			p.server.say("426 broken off")
			p.client.hear("426")
			p.server.say("226 aborted")
			p.client.hear("226")
			b.to.Close()
			gone := st.login().retrieveActive()
			gone.carry(payload(60_000))
			reset(t, gone.to)
			reset(t, gone.client.Conn)
			gone.server.ended()
			until(t, "three transfers in the log", func() bool { return strings.Count(contents(t, s.transfers), "\n") == 3 })
			for i, one := range lines(t, s.transfers) {
				if bytes := []int64{100_003, 50_000, 60_000}[i]; one.Complete != (i == 0) || one.Bytes != bytes || (one.Verdict == "") != (i == 0) {
					t.Errorf("got the transfer %+v; want %d bytes, and the first complete alone", one, bytes)
				}
			}
			p.quit()
			s.interrupt()
			for i, line := range strings.Split(strings.TrimSuffix(contents(t, s.xferlog), "\n"), "\n") {
				want := []string{" 100003 file a _ o r somebody ftp 0 * c", " 50000 file a _ o r somebody ftp 0 * i", " 60000 file a _ o r somebody ftp 0 * i"}
				if i >= len(want) || !strings.HasSuffix(line, want[i]) {
					t.Errorf("line %d of the xferlog: got %q; want %q", i+1, line, want[min(i, 2)])
				}
			}
		})
	}
}

// What was over just before the end is counted, too.
func TestShowLogsAtTheEnd(t *testing.T) {
	for path := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			st, s := newShownStage(t, fmt.Sprintf(oneForward+"data = %q\n", "files", gateway4, path))
			p := st.login()
			p.retrieve(netip.Addr{}).complete()
			p.retrieveActive().complete()
			p.quit()
			s.interrupt()
			all := lines(t, s.transfers)
			if len(all) != 2 || all[0].Bytes != 100_003 || all[1].Bytes != 100_003 || !all[0].Complete || !all[1].Complete {
				t.Errorf("got the transfers %+v; want two of 100003 bytes", all)
			}
		})
	}
}

// A disk that is full disturbs no session: it is told, and when there is room again the log goes on.
func TestShowLogsDiskFull(t *testing.T) {
	t.Parallel()
	forward := fmt.Sprintf(oneForward, "files", gateway4)
	st, s := newShownStage(t, forward)
	disk := shortDir(t)
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	logged(t, s, disk, forward)
	p := st.login()
	p.retrieve(netip.Addr{}).complete()
	until(t, "a line", func() bool { return len(lines(t, s.transfers)) == 1 })

	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 128<<10), 0o600); err == nil {
		t.Fatal("the disk has room; want it full")
	}
	for range 30 { // what the pages that the files have already can take
		p.retrieve(netip.Addr{}).complete()
	}
	s.await(`msg="transfers are missing from the transfer log" file=`+s.transfers, 1)
	wantLines(t, s.text(), `err="write `+s.transfers+`: no space left on device" remedy="make room on its disk"`)
	if f := s.status().Forwards[0]; f.Sessions != 1 || f.Failed != 0 {
		t.Errorf("got the forward %+v; want the session to go on", f)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	p.retrieve(netip.Addr{}).complete()
	s.await(`msg="transfers are written to the transfer log again" file=`+s.transfers, 1)
	p.quit()
	s.interrupt()
	if n := len(lines(t, s.transfers)); n < 2 || n > 31 {
		t.Errorf("got %d whole lines; want some, and some missing", n)
	}
}

// A directory that is not there is told at the start; one that goes away later disturbs nothing.
func TestShowLogsWithoutDirectory(t *testing.T) {
	t.Parallel()
	forward := fmt.Sprintf(oneForward, "files", gateway4)
	st, s := newShownStage(t, forward)
	dir := filepath.Join(shortDir(t), "log")
	s.interrupt()
	s.transfers, s.xferlog = filepath.Join(dir, "transfers.log"), filepath.Join(dir, "xferlog.log")
	s.configure(t, forward)
	_, stderr, status := run(t, s.host, "run", "-c", s.file)
	if status != 1 {
		t.Errorf("without the directory got exit status %d; want 1", status)
	}
	wantLines(t, stderr, s.transfers+": no such file or directory", "make its directory", "1 fault, nothing has been changed")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.program = start(t, s.host, "run", "-c", s.file).ready()
	p := st.login()
	p.retrieve(netip.Addr{}).complete()
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGUSR1)
	s.await(`msg="log of transfers not reopened"`, 1)
	wantLines(t, s.text(), "until then the file that was open goes on")
	p.retrieve(netip.Addr{}).complete()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	before := filepath.Join(dir+".gone", "transfers.log")
	until(t, "both transfers where the file is now", func() bool { return len(lines(t, before)) == 2 })
	s.signal(syscall.SIGUSR1)
	s.await(`msg="log of transfers reopened"`, 1)
	p.retrieve(netip.Addr{}).complete()
	p.quit()
	s.interrupt()
	if all := lines(t, before, s.transfers); len(all) != 3 {
		t.Errorf("got the transfers %+v; want three", all)
	}
}
