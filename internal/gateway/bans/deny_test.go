package bans

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/ban"
)

// A denied file counts as soon as it changes. One that is not sound is told once, and the one before stays.
func TestDeny(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "denied")
	write := func(text string) {
		t.Helper()
		next := file + ".new"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "")
		write("# none\n")
		deny := ban.Deny{Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			Files: []string{file}}
		read, findings := Read(deny)
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		if _, err := b.Deny(read); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.want("with an empty file", false)
		write("192.0.2.0/24\n")
		pass(2 * checkTime)
		b.want("after a change", true)
		if b.Denied() != 2 || b.looked() == 0 {
			t.Errorf("got %d denied, sessions looked for %d times; want 2, and their sessions ended",
				b.Denied(), b.looked())
		}
		write("192.0.2.0/24\nwhat?\n")
		pass(10 * checkTime)
		b.want("with an unsound file", true)
		if got := strings.Count(b.log.String(), "level=ERROR"); got != 1 ||
			!strings.Contains(b.log.String(), "denied: line 2: ") {
			t.Errorf("got %d errors; want one with the line:\n%s", got, b.log.String())
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		pass(10 * checkTime)
		b.want("without the file", true)
		write("")
		pass(2 * checkTime)
		b.want("with an empty file", false)
	})
}

// A denied file that is wrong and changes all the time is told after some seconds, and then once a minute.
func TestDenyKeepsChanging(t *testing.T) {
	file := filepath.Join(t.TempDir(), "denied")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "")
		read, _ := Read(ban.Deny{Files: []string{file}})
		if _, err := b.Deny(read); err != nil {
			t.Fatal(err)
		}
		b.start()
		for i := range 150 {
			if err := os.WriteFile(file, []byte(strings.Repeat("what?\n", i+1)), 0o600); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
			if i == 5 && len(b.Problems()) != 1 {
				t.Errorf("got problems %q; want one", b.Problems())
			}
		}
		if got := strings.Count(b.log.String(), "level=ERROR"); got != 3 {
			t.Errorf("got %d errors in 150 s; want 3:\n%s", got, b.log.String())
		}
		if err := os.WriteFile(file, []byte("192.0.2.0/24"), 0o600); err != nil {
			t.Fatal(err)
		}
		pass(2 * checkTime)
		b.want("with a file that is right", true)
		if got := b.Problems(); len(got) > 0 {
			t.Errorf("got problems %q; want none", got)
		}
	})
}

// What cannot be read, or is none of the kind, is a fault with a remedy.
func TestReadFaults(t *testing.T) {
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		dir: dir + " is not a file", pipe: pipe + " is not a file", large: "too large",
		filepath.Join(dir, "none"): "none cannot be read: no such file or directory",
	} {
		_, findings := Read(ban.Deny{Files: []string{file}})
		if len(findings) != 1 || !findings[0].IsFault() || !strings.Contains(findings[0].Text, want) ||
			findings[0].Remedy == "" {
			t.Errorf("%s: got %v; want a fault with %q", file, findings, want)
		}
	}
	_, findings := Read(ban.Deny{Prefixes: make([]netip.Prefix, ban.MaxDenied+1)})
	if len(findings) != 1 || !strings.Contains(findings[0].Text, "want at most 50000") {
		t.Errorf("got %v; want too many", findings)
	}
}

// Who lifts a ban reads what still refuses the client: another ban, deny, or a file that it names.
func TestUnbanRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "denied")
	if err := os.WriteFile(file, []byte("\ufeff192.0.2.4/30\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, deny := range map[string]ban.Deny{
		"": {}, "deny in the file has 192.0.2.0/24": {Prefixes: []netip.Prefix{around}},
		file + ", which deny names, has 192.0.2.4/30": {Files: []string{file},
			Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
	} {
		b := newBed(t, "")
		read, findings := Read(deny)
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		if _, err := b.Deny(read); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Ban(alone, 0, ""); err != nil {
			t.Fatal(err)
		}
		if done, err := b.Unban(alone); err != nil || done.Refused != want {
			t.Errorf("got %+v, error %v; want still refused: %q", done, err, want)
		}
	}
	b := newBed(t, "")
	for _, p := range []netip.Prefix{alone, around} {
		if _, err := b.Ban(p, 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := b.Unban(alone); err != nil || done.Refused != "192.0.2.0/24 is banned" {
		t.Errorf("got %+v, error %v; want refused by the ban around it", done, err)
	}
}

// The log names a disk that does not answer. The list of bans and the stop do not wait for it. Once it
// answers, the changed file is in use.
func TestDenyDiskHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "denied")
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "")
		disk := make(chan struct{})
		hangs := func() {
			b.file = func(string, int64) ([]byte, error) { <-disk; return []byte("192.0.2.0/24\n"), nil }
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		deny := ban.Deny{Files: []string{file}}
		read, findings := b.Read(deny)
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		if _, err := b.Deny(read); err != nil {
			t.Fatal(err)
		}
		hangs()
		if _, findings := b.Read(deny); len(findings) != 1 ||
			findings[0].Text != file+" cannot be read: the disk or file server does not answer" {
			t.Errorf("got findings %v; want that the disk does not answer", findings)
		}
		b.start()
		if err := os.WriteFile(file, []byte("192.0.2.0/24\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		pass(20 * checkTime)
		b.want("while the disk hangs", false)
		if got := strings.Count(b.log.String(), "does not answer"); got != 1 {
			t.Errorf("got %d records; want one:\n%s", got, b.log.String())
		}
		if got := b.Problems(); len(got) != 1 || !strings.Contains(got[0], "does not answer") {
			t.Errorf("got problems %q; want the disk", got)
		}
		close(disk)
		pass(2 * checkTime)
		b.want("once the disk answers", true)
		if got := b.Problems(); len(got) > 0 {
			t.Errorf("got problems %q; want none", got)
		}
	})
}

// A denied file that changes all the time has a record for each of its first changes, and then one a
// minute with their number. After a minute without a change each has its own again.
func TestDenyChangesLogged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "denied")
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "")
		change := func(n int) {
			t.Helper()
			if err := os.WriteFile(file, []byte(strings.Repeat("198.51.100.1\n", n)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		change(1)
		read, _ := b.Read(ban.Deny{Files: []string{file}})
		if _, err := b.Deny(read); err != nil {
			t.Fatal(err)
		}
		b.start()
		count := func() int { return strings.Count(b.log.String(), "denied addresses read again") }
		for n := range 65 {
			change(n + 2)
			pass(checkTime)
		}
		if got := count(); got != loggedReads+1 || !strings.Contains(b.log.String(), " times=60\n") {
			t.Errorf("got %d records of 65 changes; want %d, the last with 60 of them:\n%s", got,
				loggedReads+1, b.log.String())
		}
		change(1)
		pass(3 * tellTime)
		before := count()
		change(2)
		pass(2 * checkTime)
		if got := count(); got != before+1 {
			t.Errorf("got %d records of a change after a pause; want one:\n%s", got-before, b.log.String())
		}
	})
}
