package cli

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"ftpgate/internal/cli/top"
	"ftpgate/internal/ops/admin"
)

// polling returns a poller until the test ends.
func polling(t *testing.T, a *adminFlags) (*poller, context.Context) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	p, err := newPoller(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		p.close()
	})
	return p, ctx
}

// A poller finds every ftpgate, the oldest first, and says which is which. It acts on the one that is meant.
func TestPoll(t *testing.T) {
	p, ctx := polling(t, host(t, aRun(), aForward()))
	var all []top.Instance
	for range 2 { // also when they are known
		if all = p.Poll(ctx, false); len(all) != 2 {
			t.Fatalf("got %+v; want two ftpgates", all)
		}
	}
	pid := fmt.Sprint("process ", os.Getpid())
	if all[0].Title != pid+": forward :2121 leads to ftp.example.com:21" ||
		all[1].Title != pid+": /etc/ftpgate/ftpgate.toml" || all[0].Key == all[1].Key {
		t.Errorf("got %q and %q; want the forward and the run", all[0].Title, all[1].Title)
	}
	for _, i := range all {
		if i.Problem != "" || i.At.IsZero() || len(i.Sessions) != 2 || len(i.Status.Forwards) != 1 {
			t.Errorf("got %+v; want an answer with sessions and a forward", i)
		}
	}
	of := top.SessionID{Key: all[1].Key, ID: "bbbbb-1"}
	if e, err := p.Explain(ctx, of); err != nil || e.User != "bert" {
		t.Errorf("explain: got %+v, error %v; want bert's", e, err)
	}
	if err := p.Kill(ctx, of); err != nil {
		t.Errorf("kill: %v", err)
	}
	if err := p.Kill(ctx, top.SessionID{Key: all[0].Key, ID: "bbbbb-1"}); err == nil {
		t.Error("kill at the other ftpgate: got no error; want that there is no such session")
	}
	b, err := p.Ban(ctx, of.Key, admin.BanRequest{Prefix: netip.MustParsePrefix("192.0.2.7/32")})
	if err != nil || b.Ended != 1 {
		t.Errorf("ban: got %+v, error %v", b, err)
	}
	if err := p.Kill(ctx, top.SessionID{Key: "gone", ID: "1"}); err == nil ||
		err.Error() != "the ftpgate of this session has ended" {
		t.Errorf("kill at none: got error %v", err)
	}
}

// --instance and --socket leave one.
func TestPollOne(t *testing.T) {
	a := host(t, aForward(), aRun())
	a.instance = "camera"
	p, ctx := polling(t, a)
	if all := p.Poll(ctx, false); len(all) != 1 || all[0].Status.File == "" {
		t.Errorf("with --instance got %+v; want the run", all)
	}
	a = &adminFlags{target: answering(t, aForward())}
	p, ctx = polling(t, a)
	for range 2 {
		if all := p.Poll(ctx, false); len(all) != 1 || all[0].Status.PID != 1 || len(all[0].Sessions) != 2 {
			t.Errorf("with --socket got %+v; want the forward", all)
		}
	}
	if _, err := newPoller(ctx, &adminFlags{target: t.TempDir() + "/none"}); err == nil {
		t.Error("where none runs: got no error")
	}
}

// An ftpgate that is slow does not keep the others from being shown, and its last answer stays.
func TestPollSlow(t *testing.T) {
	slow := aForward()
	p, ctx := polling(t, host(t, slow, aRun()))
	slow.looked = make(chan struct{}, 1) // before the server is asked
	p.Poll(ctx, false)
	all := p.Poll(ctx, false) // the second question hangs
	if len(all) != 2 || !strings.HasPrefix(all[0].Problem, "has not answered for ") ||
		len(all[0].Sessions) != 2 ||
		all[1].Problem != "" {
		t.Errorf("got %+v; want the last answer of one, and that it is silent", all)
	}
	<-slow.looked
	<-slow.looked
	if all = p.Poll(ctx, false); len(all) != 2 || all[0].Problem != "" {
		t.Errorf("after the answer got %+v; want no problem", all)
	}
}

// The locale's variables, the first one that is set.
func TestLocale(t *testing.T) {
	for _, test := range []struct {
		env  string
		want bool
	}{
		{"", false}, {"LANG=C", false}, {"LANG=C.UTF-8", true}, {"LANG=de_DE.utf8", true},
		{"LANG=de_DE.UTF-8 LC_ALL=C", false}, {"LANG=C LC_CTYPE=en_US.UTF-8", true},
		{"LC_ALL=de_DE.ISO-8859-1 LC_CTYPE=C.UTF-8", false},
	} {
		got := isUTF8(func(name string) string {
			for v := range strings.FieldsSeq(test.env) {
				if value, found := strings.CutPrefix(v, name+"="); found {
					return value
				}
			}
			return ""
		})
		if got != test.want {
			t.Errorf("%q: got %t; want %t", test.env, got, test.want)
		}
	}
}
