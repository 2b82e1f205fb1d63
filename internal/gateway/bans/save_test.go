package bans

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

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
		"{": "cannot read the saved bans",
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

// Where the file cannot be written, bans hold all the same. The answer and status say so, the log once; and
// it is tried again.
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

// A disk that hangs delays nothing for longer than some seconds: not bans, not a reload, not the stop.
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
