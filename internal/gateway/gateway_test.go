package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/gateway"
)

// names is a resolver whose answers the test sets.
type names struct {
	mu    sync.Mutex
	known map[string][]netip.Addr
	asked map[string]int
	err   error           // of every lookup
	block <-chan struct{} // lookups wait until it is closed, or their context is done
}

func newNames() *names {
	return &names{known: map[string][]netip.Addr{}, asked: map[string]int{}}
}

// is sets the addresses of a name; none: it does not exist.
func (n *names) is(name string, texts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[name] = addrs(texts...)
}

func (n *names) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked[host]++
	known, err, block := slices.Clone(n.known[host]), n.err, n.block
	n.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	switch {
	case err != nil:
		return nil, err
	case network != "ip":
		return nil, fmt.Errorf("look-up of network %q; want both families", network)
	case known == nil:
		return nil, errors.New("no such host")
	}
	return known, nil
}

// kernel keeps the tables that it was given.
type kernel struct {
	entered chan struct{} // nil: Apply and Remove return at once; else they send here, and wait for resume
	resume  chan struct{}

	mu       sync.Mutex
	applied  []ruleset.Table
	repaired []ruleset.Table
	swept    [][]string
	removed  []string
	err      error // of all methods
}

// Repair finds a chain missing.
func (k *kernel) Repair(t ruleset.Table) ([]string, bool, error) {
	k.block()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.repaired = append(k.repaired, t)
	return []string{"chain a"}, false, k.err
}

func (k *kernel) Apply(t ruleset.Table, stale ...string) error {
	k.block()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	k.applied, k.swept = append(k.applied, t), append(k.swept, stale)
	return nil
}

func (k *kernel) Remove(name string) error {
	k.block()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.removed = append(k.removed, name)
	return k.err
}

func (k *kernel) block() {
	if k.entered != nil {
		k.entered <- struct{}{}
		<-k.resume
	}
}

func (k *kernel) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// applies returns how often the kernel was changed.
func (k *kernel) applies() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.applied)
}

// last returns the text of the table in force.
func (k *kernel) last() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.applied) == 0 {
		return ""
	}
	return k.applied[len(k.applied)-1].Text()
}

// diary is a log handler that keeps records as lines: level, message, forward.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (*diary) Enabled(context.Context, slog.Level) bool { return true }
func (d *diary) WithAttrs([]slog.Attr) slog.Handler     { return d }
func (d *diary) WithGroup(string) slog.Handler          { return d }
func (d *diary) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if slices.Contains([]string{"forward", "from", "to"}, a.Key) {
			line += fmt.Sprintf(" %s=%s", a.Key, a.Value)
		}
		return true
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
	return nil
}

// wantNew compares what was logged since its last call.
func (d *diary) wantNew(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("got the log\n%swant\n%s", lines(d.lines), lines(want))
	}
	d.lines = nil
}

// bench is a gateway with fakes around it.
type bench struct {
	*gateway.Gateway
	counted int // calls of OnApply
	names   *names
	kernel  *kernel
	log     *diary
}

func newBench() *bench {
	b := &bench{names: newNames(), kernel: &kernel{}, log: &diary{}}
	b.Gateway = gateway.New("ftpgate", b.kernel, b.names, slog.New(b.log))
	b.OnApply = func() { b.counted++ }
	return b
}

// publish resolves and publishes.
func (b *bench) publish(t *testing.T, forwards ...forward.Forward) {
	t.Helper()
	resolved, _ := b.Resolve(t.Context(), forwards)
	if err := b.Publish(resolved); err != nil {
		t.Fatal(err)
	}
}

// refresh expects no error, and a change or none.
func (b *bench) refresh(t *testing.T, want bool) {
	t.Helper()
	if changed, err := b.Refresh(t.Context(), sound); changed != want || err != nil {
		t.Errorf("refresh: got changed %t, error %v; want %t and none", changed, err, want)
	}
}

func plain(name, listen, server string) forward.Forward {
	f := testForward(listen, server).Forward
	f.Name = name
	return f
}

// servers returns the addresses of resolved forwards, each "v4 v6" with - for none.
func servers(forwards []forward.Resolved) []string {
	var list []string
	for _, f := range forwards {
		list = append(list, strings.ReplaceAll(f.Server4.String()+" "+f.Server6.String(), "invalid IP", "-"))
	}
	return list
}

func TestResolve(t *testing.T) {
	const (
		host   = "ftp.example.com"
		failed = `server name "ftp.example.com" cannot be resolved: `
		remedy = ": fix the name or the resolver (getent hosts ftp.example.com)" +
			", or give the server's address"
	)
	for _, tt := range []struct {
		name    string
		listen  string
		server  string
		known   []string
		want    string
		finding string
	}{
		{"literal", ":2121", "203.0.113.21", nil, "203.0.113.21 -", ""},
		{"literal IPv6", "[2001:db8:5::2]:2121", "2001:db8:113::21", nil, "- 2001:db8:113::21", ""},
		{"the first of each family", ":2121", host,
			[]string{"2001:db8::9", "203.0.113.9", "203.0.113.1", "2001:db8::1"},
			"203.0.113.9 2001:db8::9", ""},
		{"mapped", ":2121", host, []string{"::ffff:203.0.113.9"}, "203.0.113.9 -", ""},
		{"IPv4 listen", "192.168.5.2:2121", host, []string{"2001:db8::9", "203.0.113.9"},
			"203.0.113.9 -", ""},
		{"IPv6 listen", "[2001:db8:5::2]:2121", host, []string{"203.0.113.9", "2001:db8::9"},
			"- 2001:db8::9", ""},
		{"link-local", ":2121", host, []string{"fe80::1%lan0", "203.0.113.9"}, "203.0.113.9 -", ""},
		{"only link-local", ":2121", host, []string{"fe80::1%lan0"}, "- -",
			failed + "it has no address that can be routed" + remedy},
		{"no such name", ":2121", host, nil, "- -", failed + "no such host" + remedy},
		{"only the other family", "192.168.5.2:2121", host, []string{"2001:db8::9", "2001:db8::1"}, "- -",
			`server "ftp.example.com" has no IPv4 address (it has 2001:db8::9, 2001:db8::1), ` +
				`and listen 192.168.5.2:2121 is IPv4: listen on an IPv6 address or :2121`},
		{"only the other family, IPv6", "[2001:db8:5::2]:2121", host, []string{"203.0.113.9"}, "- -",
			`server "ftp.example.com" has no IPv6 address (it has 203.0.113.9), ` +
				`and listen [2001:db8:5::2]:2121 is IPv6: listen on an IPv4 address or :2121`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench()
			if tt.known != nil {
				b.names.is("ftp.example.com", tt.known...)
			}
			got, findings := b.Resolve(t.Context(), []forward.Forward{plain("main", tt.listen, tt.server)})
			if s := servers(got); !slices.Equal(s, []string{tt.want}) {
				t.Errorf("got servers %q; want %q", s, tt.want)
			}
			var want []string
			if tt.finding != "" {
				want = []string{`forward "main": ` + tt.finding}
			}
			wantFindings(t, findings, want...)
		})
	}
}

// Each host name is looked up once, and an address never.
func TestResolveAsksOnce(t *testing.T) {
	b := newBench()
	b.names.is("ftp.example.com", "203.0.113.9")
	var forwards []forward.Forward
	for i := range 100 {
		host := []string{"ftp.example.com", "gone.example.com", "203.0.113.21"}[i%3]
		forwards = append(
			forwards,
			plain(fmt.Sprint(i), fmt.Sprintf(":%d", 2121+i), fmt.Sprintf("%s:%d", host, 21+i)),
		)
	}
	got, findings := b.Resolve(t.Context(), forwards)
	if want := map[string]int{"ftp.example.com": 1, "gone.example.com": 1}; !maps.Equal(b.names.asked, want) {
		t.Errorf("got look-ups %v; want %v", b.names.asked, want)
	}
	if want := []string{"203.0.113.9 -", "- -", "203.0.113.21 -"}; !slices.Equal(servers(got)[:3], want) {
		t.Errorf("got servers %q; want %q", servers(got)[:3], want)
	}
	if len(findings) != 33 {
		t.Errorf("got %d findings; want one for each of the 33 forwards to gone.example.com", len(findings))
	}
}

// Look-ups run in parallel, but not thousands of them. One without an answer ends, and so do all together.
func TestResolveWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.names.block = make(chan struct{}) // for good
		var forwards []forward.Forward
		for i := range 1000 {
			forwards = append(
				forwards,
				plain(fmt.Sprint(i), fmt.Sprintf(":%d", 2121+i), fmt.Sprintf("s%d.example.com", i)),
			)
		}
		start := time.Now()
		done := make(chan []finding.Finding)
		go func() {
			_, findings := b.Resolve(t.Context(), forwards)
			done <- findings
		}()
		synctest.Wait()
		b.names.mu.Lock()
		atOnce := len(b.names.asked)
		b.names.mu.Unlock()
		if atOnce != 32 {
			t.Errorf("got %d look-ups at once; want 32", atOnce)
		}
		findings := <-done
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("got an answer after %s; want it after the 30s that all of them have", took)
		}
		if len(findings) != 1000 ||
			!strings.Contains(findings[0].Text, `"s0.example.com" cannot be resolved: no answer within 10s`) {
			t.Errorf(
				"got %d findings, the first %+v; want 1000 without an answer",
				len(findings),
				findings[0],
			)
		}
	})
}

func TestResolveCancelled(t *testing.T) {
	b := newBench()
	b.names.is("ftp.example.com", "203.0.113.9")
	b.publish(t, plain("main", ":2121", "ftp.example.com"))
	b.names.block = make(chan struct{})
	stop := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if changed, err := b.Refresh(ctx, sound); changed || !errors.Is(err, stop) {
		t.Errorf("got changed %t, error %v; want no change and %v", changed, err, stop)
	}
	if got := b.kernel.applies(); got != 1 {
		t.Errorf("got %d applies; want none but the first", got)
	}
	b.log.wantNew(t) // an end is no failure of the name
}

func TestPublish(t *testing.T) {
	b := newBench()
	broken := errors.New("nft: no room")
	b.kernel.fail(broken)
	resolved, _ := b.Resolve(
		t.Context(),
		[]forward.Forward{plain("main", ":2121", "203.0.113.21"), plain("other", ":2122", "203.0.113.22")},
	)
	err := b.Publish(resolved)
	if want := "gateway: publish 2 forwards: nft: no room"; !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("got error %v; want %s", err, want)
	}
	if got := b.Forwards(); len(got) != 0 {
		t.Errorf("got %v published after an error; want none", got)
	}
	b.kernel.fail(nil)
	if err := b.Publish(resolved, "ftpgate-dead"); err != nil {
		t.Fatal(err)
	}
	if want := ruleset.Build("ftpgate", resolved).Text(); b.kernel.last() != want {
		t.Errorf("got\n%s\nwant\n%s", b.kernel.last(), want)
	}
	if got := b.kernel.swept[0]; !slices.Equal(got, []string{"ftpgate-dead"}) {
		t.Errorf("got swept %q; want ftpgate-dead", got)
	}
	if b.UsesNames() {
		t.Error("got named servers; want none")
	}
	if got := servers(b.Forwards()); !slices.Equal(got, []string{"203.0.113.21 -", "203.0.113.22 -"}) {
		t.Errorf("got servers %q; want both", got)
	}
	if err := b.Stop(); err != nil || !slices.Equal(b.kernel.removed, []string{"ftpgate"}) {
		t.Errorf("got removed %q, error %v; want ftpgate", b.kernel.removed, err)
	}
	if got := b.Forwards(); len(got) != 0 {
		t.Errorf("got %v published after Stop; want none", got)
	}
	b.kernel.fail(broken)
	if err := b.Stop(); !errors.Is(err, broken) || err.Error() != "gateway: stop: nft: no room" {
		t.Errorf("got error %v; want gateway: stop: %v", err, broken)
	}
}
