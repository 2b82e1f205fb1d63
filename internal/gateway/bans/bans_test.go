package bans

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

var (
	client = netip.MustParseAddr("192.0.2.7")
	alone  = netip.MustParsePrefix("192.0.2.7/32")
	around = netip.MustParsePrefix("192.0.2.0/24")
)

// bed is a Keeper whose kernel may refuse.
type bed struct {
	*Keeper
	t   *testing.T
	log record

	mu      sync.Mutex
	refused error      // the kernel's
	applied ban.Ranges // by the kernel
	ends    int        // how often sessions were looked for
}

// record is a log that may be read while it is written.
type record struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// refuse makes the kernel refuse changes; nil: it accepts them.
func (b *bed) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = err
}

// looked returns how often sessions were looked for.
func (b *bed) looked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ends
}

func newBed(t *testing.T, file string) *bed {
	b := &bed{t: t}
	b.Keeper = New(Config{
		Log: slog.New(slog.NewTextHandler(&b.log, nil)),
		Apply: func(r ban.Ranges) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.refused == nil {
				b.applied = r
			}
			return b.refused
		},
		End: func(refused func(netip.Addr) bool) int {
			b.mu.Lock()
			b.ends++
			b.mu.Unlock()
			if refused(client) {
				return 1
			}
			return 0
		},
		File: file,
	})
	return b
}

// start runs the Keeper until the test ends.
func (b *bed) start() {
	ctx, cancel := context.WithCancel(b.t.Context())
	wait := b.Start(ctx)
	b.t.Cleanup(func() { cancel(); wait() })
}

// pass lets time pass, and waits for what the Keeper does then.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// want expects that both who carry the list out ban the client, or neither.
func (b *bed) want(what string, banned bool) {
	b.t.Helper()
	b.mu.Lock()
	_, kernel := b.applied.Find(client)
	b.mu.Unlock()
	if b.Refuses(client) != banned || kernel != banned {
		b.t.Errorf("%s: got banned %t, in the kernel %t; want %t", what, b.Refuses(client), kernel, banned)
	}
}

// A ban holds at once, ends sessions, and ends by itself; one around it that lasts longer goes on.
func TestBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "")
		b.start()
		b.want("at first", false)
		if done, err := b.Ban(alone, time.Minute, "why"); err != nil || done.Ended != 1 ||
			!done.Ban.Until.Equal(done.Ban.Since.Add(time.Minute)) || len(b.Bans()) != 1 ||
			b.Bans()[0] != done.Ban || !errors.Is(done.NotKept, errNowhere) {
			t.Errorf("got %+v, error %v, list %v; want a ban for a minute and one session", done, err,
				b.Bans())
		}
		b.want("after the ban", true)
		if _, err := b.Ban(around, 2*time.Minute, ""); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute + time.Second)
		b.want("after a minute", true)
		if got := strings.Count(b.log.String(),
			`"ban ended: its time is over" address=192.0.2.7`); got != 1 ||
			len(b.Bans()) != 1 {
			t.Errorf("got %d records, %v; want one end:\n%s", got, b.Bans(), b.log.String())
		}
		pass(time.Minute)
		b.want("after two minutes", false)
		if _, err := b.Ban(alone, 0, ""); err != nil {
			t.Fatal(err)
		}
		pass(24 * time.Hour)
		b.want("after a day", true)
		if _, err := b.Unban(around); !errors.Is(err, ban.ErrNotBanned) {
			t.Errorf("got error %v; want %v", err, ban.ErrNotBanned)
		}
		if _, err := b.Unban(alone); err != nil {
			t.Error(err)
		}
		b.want("after unban", false)
	})
}

// What the kernel does not carry out has not happened; the end of a ban is tried again.
func TestKernelRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, filepath.Join(t.TempDir(), "bans.json"))
		b.start()
		errKernel := errors.New("refused")
		b.refuse(errKernel)
		if _, err := b.Ban(alone, 0, ""); !errors.Is(err, errKernel) || len(b.Bans()) != 0 ||
			b.looked() != 0 {
			t.Errorf("got error %v, %v; want the kernel's, and no ban", err, b.Bans())
		}
		if _, err := b.Deny(Denied{prefixes: []netip.Prefix{around}}); !errors.Is(err, errKernel) ||
			b.Denied() != 0 {
			t.Errorf("got error %v, %d denied; want the kernel's, and none", err, b.Denied())
		}
		b.want("refused", false)
		b.refuse(nil)
		if _, err := b.Ban(alone, time.Minute, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.refuse(errKernel)
		pass(90 * time.Second)
		if _, err := b.Unban(alone); !errors.Is(err, errKernel) {
			t.Errorf("got error %v; want %v", err, errKernel)
		}
		synctest.Wait()
		b.refuse(nil)
		pass(2 * retryTime)
		b.want("after the next try", false)
	})
}

// Bans outlive the process. What the file has beside sound bans is left out, and told.
func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "bans-ftpgate.json")
	b := newBed(t, file)
	b.Load()
	for p, d := range map[netip.Prefix]time.Duration{alone: time.Hour, around: 0,
		netip.MustParsePrefix("2001:db8::/32"): time.Millisecond} {
		if _, err := b.Ban(p, d, "why"); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(2 * time.Millisecond)
	next := newBed(t, file)
	next.Load()
	next.want("after a start", true)
	if got := next.Bans(); len(got) != 2 || got[1].Reason != "why" || got[1].Until.IsZero() ||
		!got[0].Until.IsZero() {
		t.Errorf("got %+v; want the two that go on", got)
	}
	for text, want := range map[string]string{
		"{": "cannot read the bans of before",
		`{"bans":[{"prefix":"0.0.0.0/0"},{"prefix":"192.0.2.7/32"}]}`:            "ban left out",
		`{"bans":[{"prefix":5},{"prefix":"192.0.2.7/32"}]}`:                      "ban left out",
		`{"bans":[{"prefix":"192.0.2.8/24"},{"prefix":"::ffff:192.0.2.7/128"}]}`: "has bits behind /24",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b := newBed(t, file)
		b.Load()
		bans, kept := 1, file
		if text == "{" {
			bans, kept = 0, file+".broken"
		}
		if !strings.Contains(b.log.String(), want) || len(b.Bans()) != bans {
			t.Errorf("%s: got %v, log %s; want %d, and %q", text, b.Bans(), b.log.String(), bans, want)
		}
		if got, err := os.ReadFile(kept); err != nil || string(got) != text {
			t.Errorf("%s: %s has %q, %v; want it kept", text, kept, got, err)
		}
	}
}

// Where the file cannot be written, bans hold all the same. The answer and status say so, the log once; and it
// is tried again.
func TestUnwritable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bans.json")
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, file)
		b.start()
		for range 2 {
			if done, err := b.Ban(alone, 0, ""); err != nil || !errors.Is(done.NotKept, syscall.ENOTDIR) {
				t.Errorf("got %+v, error %v; want a ban that is not kept: %v", done, err, syscall.ENOTDIR)
			}
		}
		b.want("without a file", true)
		pass(10 * retryTime)
		if got := strings.Count(b.log.String(), "cannot write the bans"); got != 1 || len(b.Problems()) != 1 {
			t.Errorf("got %d records, problems %q; want 1 each:\n%s", got, b.Problems(), b.log.String())
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		pass(2 * retryTime)
		next := newBed(t, file)
		next.Load()
		next.want("once the file can be written", true)
		if got := b.Problems(); len(got) > 0 {
			t.Errorf("got problems %q; want none", got)
		}
		if done, err := b.Ban(around, 0, ""); err != nil || done.NotKept != nil {
			t.Errorf("got %+v, error %v; want a ban that is kept", done, err)
		}
	})
}

// A disk that hangs holds up nobody for longer than some seconds: not bans, not a reload, not the stop.
func TestDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "bans.json")
		resume := make(chan struct{})
		b.saver.write = func(state) error { <-resume; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		wait := b.Start(ctx)
		began := time.Now()
		done, err := b.Ban(alone, time.Minute, "")
		if err != nil || !errors.Is(done.NotKept, errSlow) || len(b.Problems()) != 1 {
			t.Errorf("got %+v, error %v, problems %q; want a ban that is not kept", done, err, b.Problems())
		}
		b.want("not kept", true)
		if done, err := b.Unban(alone); err != nil || !errors.Is(done.NotKept, errSlow) {
			t.Errorf("unban: got %+v, error %v; want it lifted, not kept", done, err)
		}
		if _, err := b.Deny(Denied{prefixes: []netip.Prefix{around}}); err != nil {
			t.Error(err)
		}
		b.want("denied", true)
		cancel()
		wait()
		if took := time.Since(began); took > 3*saveTime {
			t.Errorf("got the end after %s; want at most %s for each", took, saveTime)
		}
		if got := strings.Count(b.log.String(), "level=ERROR"); got != 1 {
			t.Errorf("got %d errors; want one, that the bans are not written:\n%s", got, b.log.String())
		}
		if done, err := b.Ban(alone, 0, ""); err != nil || !errors.Is(done.NotKept, errStopping) {
			t.Errorf("after the end: got %+v, error %v; want %v", done, err, errStopping)
		}
		close(resume)
	})
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

// A ban of a forward's server is warned of, with the forward: in the answer, and as long as it lasts.
func TestServers(t *testing.T) {
	f := forward.Resolved{Server4: client, Servers: []netip.Addr{client}}
	f.Name = "nas"
	f.Tracking = forward.TrackingProxy
	other, none := f, f
	other.Server4, other.Servers = netip.MustParseAddr("203.0.113.21"), nil
	none.Tracking = forward.TrackingNone
	b := newBed(t, "")
	b.config.Forwards = func() []forward.Resolved { return []forward.Resolved{other, none, f} }
	done, err := b.Ban(alone, 0, "")
	if want := `forward "nas": the server's address 192.0.2.7 is banned`; err != nil ||
		len(done.Warnings) != 1 || !strings.HasPrefix(done.Warnings[0], want) || len(b.Problems()) != 1 {
		t.Errorf("got %+v, error %v, problems %q; want %q", done, err, b.Problems(), want)
	}
	if _, err := b.Unban(alone); err != nil || len(b.Problems()) > 0 {
		t.Errorf("got error %v, problems %q; want none", err, b.Problems())
	}
	if done, err := b.Ban(netip.MustParsePrefix("198.51.100.0/24"), 0, ""); err != nil ||
		len(done.Warnings) > 0 {
		t.Errorf("got %+v, error %v for a ban of others; want no warning", done, err)
	}
	denied, _ := Read(ban.Deny{Prefixes: []netip.Prefix{around}})
	if got := Servers(denied.Refuses, b.config.Forwards()); len(got) != 1 || got[0].Forward != "nas" ||
		got[0].Severity != finding.Warning {
		t.Errorf("got %v; want a warning about the forward", got)
	}
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
		write("# nobody\n")
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
