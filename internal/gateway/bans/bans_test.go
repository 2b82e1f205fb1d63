package bans

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
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
