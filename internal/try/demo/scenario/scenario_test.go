package scenario

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"ftpgate/internal/try/demo/ftpserver"
)

var update = flag.Bool("update", false, "write the golden files anew")

// masks hide what differs from run to run: ports, times and rates.
var masks = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(\d+,\d+,\d+,\d+),\d+,\d+`), "$1,P,P"},
	{regexp.MustCompile(`(\d+\.\d+\.\d+\.\d+):(\d{5})`), "$1:PPPPP"},
	{regexp.MustCompile(`\|\|\|\d+\|`), "|||PPPPP|"},
	{regexp.MustCompile(`established \(\d+\)`), "established (PPPPP)"},
	{regexp.MustCompile(`\d+\.\d+ s\b`), "T s"},
	{regexp.MustCompile(`\d+ MiB/s *`), "R MiB/s "},
	{regexp.MustCompile(`has \d+\.\d\d of`), "has R of"},
}

// featureLines come in any order: the server keeps what it can do in a map.
var featureLines = regexp.MustCompile(`(?m)(^<---  .*\n)+`)

func mask(s string) string {
	s = featureLines.ReplaceAllStringFunc(s, func(lines string) string {
		return strings.Join(slices.Sorted(strings.Lines(lines)), "")
	})
	for _, m := range masks {
		s = m.re.ReplaceAllString(s, m.with)
	}
	return s
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	got = mask(got)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (written anew with -update): got\n%s\nwant\n%s", path, got, want)
	}
}

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := runScenario(t, testContext(t), &out, newFakeTestbed(t)); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q; want 80 at most", n, line)
		}
	}
	if strings.Contains(out.String(), ftpserver.Password) {
		t.Errorf("the story shows the password")
	}
	checkGolden(t, "story.txt", out.String())
}

// TestStoryGoesWrong: a gateway that does something else than the story says is found out.
func TestRunFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(string) string
		want  []string
	}{
		{
			"the 227 of act 1 is rewritten",
			func(line string) string { return strings.Replace(line, "(203,0,113,21,", "(192,168,5,2,", 1) },
			[]string{"Act 1: without tracking: PASV: listing: the client got it, and should not have got it without tracking"},
		},
		{
			"no 227 is rewritten",
			func(line string) string { return strings.Replace(line, "(192,168,5,2,", "(203,0,113,21,", 1) },
			[]string{
				"Act 2: with kernel tracking: PASV: listing: data connection: dial tcp: connect: network is unreachable",
				"Act 3: with proxy tracking: PASV: listing: data connection: dial tcp: connect: network is unreachable",
				"a 227 in two segments: with proxy tracking: 203.0.113.21: network is unreachable; gateway: a connection; want the listing, and 192.168.5.2 in the 227",
			},
		},
		{
			"the 227 of act 2 names a third host",
			func(line string) string {
				if strings.HasPrefix(line, "227 Entering Passive Mode (192") {
					return strings.Replace(line, "(192,168,5,2,", "(192,168,5,9,", 1)
				}
				return line
			},
			[]string{"PASV: listing: data connection"},
		},
		{
			"EPSV is refused",
			func(line string) string {
				if strings.HasPrefix(line, "229 ") {
					return "502 not here\r\n"
				}
				return line
			},
			[]string{`EPSV: listing: EPSV: the answer is 502 "not here"; want 2yz`},
		},
		{
			"a download is not complete",
			func(line string) string {
				if strings.Contains(line, fmt.Sprintf("sent %d bytes", len(fakeSetup.download))) {
					return "426 lost\r\n"
				}
				return line
			},
			[]string{"PASV: download: RETR: the answer is 426", "EPSV: download: RETR: the answer is 426", "PORT: download: RETR: the answer is 426"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			st := newFakeTestbed(t)
			st.rewrite = tt.spoil
			err := runScenario(t, testContext(t), &out, st)
			if err == nil {
				t.Fatalf("got no error; want %q", tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v; want %s", err, want)
				}
			}
			if !strings.Contains(out.String(), "The story went differently") || !strings.Contains(out.String(), "tracking  data connections") {
				t.Errorf("the story does not say so, or has no table:\n%s", out.String())
			}
		})
	}
}

// TestStoryWithAbleKernel: a kernel that does not do what is told of it is found out, too.
func TestRunKernelFollowsQuirks(t *testing.T) {
	var out strings.Builder
	st := newFakeTestbed(t)
	st.kernelFollowsQuirks = true
	err := runScenario(t, testContext(t), &out, st)
	for _, want := range []string{
		"a 227 in two segments: with kernel tracking: 192.168.5.2: the listing came, 55 bytes as the server sent them; want no answer",
		"200 and 227 in one segment: with kernel tracking: 192.168.5.2: the listing came, 55 bytes as the server sent them; want 203.0.113.21 in the 227, and no data",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %s", err, want)
		}
	}
}

// TestFinding: how each thing that a client may meet with is told.
func TestQuirkResult(t *testing.T) {
	told := netip.MustParseAddrPort("203.0.113.21:50000")
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	for _, tt := range []struct {
		found      quirkResult
		text, cell string
	}{
		{quirkResult{noReplyFor: time.Second}, "no answer within 1s", "stalls"},
		{quirkResult{address: told, dialErr: refused, gatewayDialErr: refused},
			"203.0.113.21: connection refused; gateway: connection refused", "leaks 203.0.113.21, no data"},
		{quirkResult{address: netip.MustParseAddrPort("0.0.0.0:1"), dialErr: errors.New("not there")},
			"0.0.0.0: not there; gateway: a connection", "says 0.0.0.0, no data"},
		{quirkResult{address: told, listing: quirkListing}, "203.0.113.21: the listing came, 55 bytes as the server sent them", "works"},
		{quirkResult{address: told, listing: "other"}, "203.0.113.21: 5 bytes came that are not the listing", "wrong data"},
		{quirkResult{address: told, listing: quirkListing, err: errors.New("broken\x1boff")}, "broken?off", "FAILED"},
	} {
		if got := tt.found.String(); got != tt.text {
			t.Errorf("got %q; want %q", got, tt.text)
		}
		if got := tt.found.cell(told.Addr()); got != tt.cell {
			t.Errorf("%s: got %q; want %q", tt.text, got, tt.cell)
		}
	}
}

// TestStoryWithoutGateway: the story says which part the machine cannot do, and how to get it.
func TestRunWithoutGateway(t *testing.T) {
	var out strings.Builder
	refuse := errors.New("the gateway cannot start (exit status 1): no helper")
	st := newFakeTestbed(t)
	st.startErr = refuse
	err := runScenario(t, testContext(t), &out, st)
	if !errors.Is(err, refuse) {
		t.Errorf("got %v; want %v", err, refuse)
	}
	for _, want := range []string{"This act cannot be played here", "modprobe -a nf_conntrack_ftp nf_nat_ftp"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", out.String(), want)
		}
	}
}

// TestStoryInterrupted: broken off before the first act, nothing more is told.
func TestRunInterrupted(t *testing.T) {
	why := errors.New("somebody pressed a key")
	ctx, cancel := context.WithCancelCause(testContext(t))
	defer cancel(nil)
	st := newFakeTestbed(t)
	st.rewrite = func(line string) string {
		if strings.HasPrefix(line, "331 ") {
			cancel(why)
		}
		return line
	}
	var out strings.Builder
	err := runScenario(t, ctx, &out, st)
	if !errors.Is(err, why) {
		t.Errorf("got %v; want %v", err, why)
	}
	if strings.Contains(out.String(), "Act 2") {
		t.Errorf("the story went on:\n%s", out.String())
	}
}
