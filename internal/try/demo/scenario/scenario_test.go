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

var update = flag.Bool("update", false, "rewrite the golden files")

// masks replace what differs from run to run: ports, times and rates.
var masks = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(\d+,\d+,\d+,\d+),\d+,\d+`), "$1,P,P"},
	{regexp.MustCompile(`(\d+\.\d+\.\d+\.\d+):(\d{5})`), "$1:PPPPP"},
	{regexp.MustCompile(`\|\|\|\d+\|`), "|||PPPPP|"},
	{regexp.MustCompile(`established \(\d+\)`), "established (PPPPP)"},
	{regexp.MustCompile(`\d+\.\d+ s\b`), "T s"},
	{regexp.MustCompile(`\d+ MiB/s\b`), "R MiB/s"},
	{regexp.MustCompile(`has \d+\.\d\d of`), "has R of"},
}

// featureLines come in any order: the server keeps its features in a map.
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
		t.Errorf("%s (rewrite it with -update): got\n%s\nwant\n%s", path, got, want)
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
		t.Errorf("the report shows the password")
	}
	checkGolden(t, "scenario.txt", out.String())
}

// failureCase is a fault of a gateway, and the errors that it must cause.
type failureCase struct {
	name    string
	rewrite func(string) string // of lines from the server
	want    []string
}

func failureCases() []failureCase {
	return []failureCase{
		{
			"the 227 of act 1 is rewritten",
			func(line string) string { return strings.Replace(line, "(203,0,113,21,", "(192,168,5,2,", 1) },
			[]string{"Act 1: without tracking: PASV: listing: it succeeded without tracking; want it to " +
				"fail"},
		},
		{
			"no 227 is rewritten",
			func(line string) string { return strings.Replace(line, "(192,168,5,2,", "(203,0,113,21,", 1) },
			[]string{
				"Act 2: with kernel tracking: PASV: listing: data connection: dial tcp: connect: network " +
					"is unreachable",
				"Act 3: with proxy tracking: PASV: listing: data connection: dial tcp: connect: network " +
					"is unreachable",
				"a 227 in two segments: with proxy tracking: 203.0.113.21: network is unreachable; " +
					"gateway: a connection; want the listing, and 192.168.5.2 in the 227",
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
			[]string{
				"PASV: download: RETR: the answer is 426",
				"EPSV: download: RETR: the answer is 426",
				"PORT: download: RETR: the answer is 426",
			},
		},
	}
}

// TestRunFails checks that the scenario detects gateways that do not work as they should.
func TestRunFails(t *testing.T) {
	for _, tt := range failureCases() {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			bed := newFakeTestbed(t)
			bed.rewrite = tt.rewrite
			err := runScenario(t, testContext(t), &out, bed)
			if err == nil {
				t.Fatalf("got no error; want %q", tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v; want %s", err, want)
				}
			}
			for _, want := range []string{"Some steps did not end as expected",
				"tracking  data connections"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got\n%s\nwant %q in it", out.String(), want)
				}
			}
		})
	}
}

// TestRunKernelFollowsQuirks checks that the scenario detects a kernel that can follow the servers with
// quirks.
func TestRunKernelFollowsQuirks(t *testing.T) {
	var out strings.Builder
	bed := newFakeTestbed(t)
	bed.kernelFollowsQuirks = true
	err := runScenario(t, testContext(t), &out, bed)
	for _, want := range []string{
		"a 227 in two segments: with kernel tracking: 192.168.5.2: the listing came, " +
			"55 bytes as the server sent them; want no reply",
		"200 and 227 in one segment: with kernel tracking: 192.168.5.2: the listing came, " +
			"55 bytes as the server sent them; want 203.0.113.21 in the 227, and no data",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %s", err, want)
		}
	}
}

// TestQuirkResult checks the text and the table cell of each kind of result.
func TestQuirkResult(t *testing.T) {
	address := netip.MustParseAddrPort("203.0.113.21:50000")
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	for _, tt := range []struct {
		result     quirkResult
		text, cell string
	}{
		{quirkResult{noReplyFor: time.Second}, "no reply within 1s", "stalls"},
		{quirkResult{address: address, dialErr: refused, gatewayDialErr: refused},
			"203.0.113.21: connection refused; gateway: connection refused", "leaks 203.0.113.21, no data"},
		{quirkResult{address: netip.MustParseAddrPort("0.0.0.0:1"), dialErr: errors.New("not there")},
			"0.0.0.0: not there; gateway: a connection", "says 0.0.0.0, no data"},
		{quirkResult{address: address, listing: quirkListing},
			"203.0.113.21: the listing came, 55 bytes as the server sent them", "works"},
		{quirkResult{address: address, listing: "other"},
			"203.0.113.21: 5 bytes came that are not the listing", "wrong data"},
		{quirkResult{address: address, listing: quirkListing, err: errors.New("broken\x1boff")},
			"broken?off", "FAILED"},
	} {
		if got := tt.result.String(); got != tt.text {
			t.Errorf("got %q; want %q", got, tt.text)
		}
		if got := tt.result.cell(address.Addr()); got != tt.cell {
			t.Errorf("%s: got %q; want %q", tt.text, got, tt.cell)
		}
	}
}

// TestRunWithoutGateway checks that the report names the act that cannot run, and the remedy.
func TestRunWithoutGateway(t *testing.T) {
	var out strings.Builder
	startErr := errors.New("the gateway cannot start (exit status 1): no helper")
	bed := newFakeTestbed(t)
	bed.startErr = startErr
	err := runScenario(t, testContext(t), &out, bed)
	if !errors.Is(err, startErr) {
		t.Errorf("got %v; want %v", err, startErr)
	}
	for _, want := range []string{"This act cannot run on this machine",
		"modprobe -a nf_conntrack_ftp nf_nat_ftp"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", out.String(), want)
		}
	}
}

// TestRunInterrupted checks that a scenario interrupted in its first act does not start the next.
func TestRunInterrupted(t *testing.T) {
	why := errors.New("a key was pressed")
	ctx, cancel := context.WithCancelCause(testContext(t))
	defer cancel(nil)
	bed := newFakeTestbed(t)
	bed.rewrite = func(line string) string {
		if strings.HasPrefix(line, "331 ") {
			cancel(why)
		}
		return line
	}
	var out strings.Builder
	err := runScenario(t, ctx, &out, bed)
	if !errors.Is(err, why) {
		t.Errorf("got %v; want %v", err, why)
	}
	if strings.Contains(out.String(), "Act 2") {
		t.Errorf("the scenario went on:\n%s", out.String())
	}
}

// TestRunOneAct checks that an act can run alone, and that the end shows its results only.
func TestRunOneAct(t *testing.T) {
	const comparison, explained = "What decides", "Why a session failed"
	for number, want := range map[int][]string{
		1: {"Act 1: without tracking", "none      PASV"},
		2: {"Act 2: with kernel tracking", "kernel    EPSV"},
		3: {"Act 3: with proxy tracking", "proxy     EPRT", comparison},
		4: {"Act 4: FTPS", "terminated      TLS 1.3", explained},
	} {
		t.Run(want[0], func(t *testing.T) {
			bed := newFakeTestbed(t)
			setup := fakeSetup
			setup.ca = bed.ca
			var out strings.Builder
			if err := Run(testContext(t), &out, bed, setup, number); err != nil {
				t.Error(err)
			}
			for _, text := range append(want, "All steps ended as expected", "sudo ftpgate forward") {
				if !strings.Contains(out.String(), text) {
					t.Errorf("got\n%s\nwant %q in it", out.String(), text)
				}
			}
			if got := strings.Count(out.String(), "Act "); got != 1 {
				t.Errorf("got %d acts; want 1", got)
			}
			if got := strings.Contains(out.String(), comparison); got != (number == 3) {
				t.Errorf("the comparison of act 3: got %v", got)
			}
		})
	}
}

// TestRunNoSuchAct checks that a wrong number names the right ones, and that nothing starts.
func TestRunNoSuchAct(t *testing.T) {
	for _, number := range []int{-1, 5} {
		var out strings.Builder
		err := Run(testContext(t), &out, nil, fakeSetup, number)
		if !errors.Is(err, ErrNoAct) || !strings.Contains(err.Error(), "1 to 4") || out.Len() > 0 {
			t.Errorf("act %d: got %v and output %q; want %v, 1 to 4, and no output", number, err,
				out.String(), ErrNoAct)
		}
	}
}
