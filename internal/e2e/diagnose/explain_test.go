package diagnose

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// failureCase is something that goes wrong in a session, and what explain must print. In expected texts
// # stands for a number, a time or a port, @ for a data path, and * for anything.
type failureCase struct {
	name    string
	forward string // more keys; a listen or a server replaces the default
	path    string // the one data path where it can happen; "" for both
	session string // the number of the session to explain; "" for the first
	provoke func(*env)

	code, text string   // of the verdict; the whole text
	remedy     string   // a part of it; "" for none
	timeline   []string // kinds and parts of entries of the time line, in order
	anywhere   []string // entries that come from the kernel, later: in any order
	absent     string   // in no entry; "" for anything
}

// env is a testbed whose gateway has an admin socket.
type env struct {
	*harness.Testbed
	*harness.AdminGateway
	path string // the data path
	keys string // of the forward
}

// explanation is what explain prints with --json. docs/api.md has the names.
type explanation struct {
	ID, State, Mode, Path string
	Totals                harness.Totals
	Transfer              *harness.TransferInfo
	Verdict               struct{ Code, Text, Remedy string }
	Events                []event
}

// event is an entry of a time line.
type event struct {
	Kind, Text string
	Data       int
}

// runFailureCases runs all cases, on each data path where they can happen.
func runFailureCases(t *testing.T, all []failureCase) {
	for _, m := range all {
		for path := range harness.DataPaths {
			if m.path != "" && m.path != path {
				continue
			}
			t.Run(m.name+"/"+path, func(t *testing.T) {
				t.Parallel()
				data := map[string]string{"kernel": "data = \"auto\"\n", "relay": "data = \"relay\"\n"}[path]
				if strings.Contains(m.forward, "data = ") {
					data = ""
				}
				s := newEnv(t, path, data+m.forward)
				m.provoke(s)
				s.wantExplained(m)
			})
		}
	}
}

// newEnv runs ftpgate with one forward.
func newEnv(t *testing.T, path, keys string) *env {
	t.Helper()
	for _, implied := range []string{"listen = \"192.168.5.2:2121\"\n", "server = \"203.0.113.21\"\n",
		"name = \"archive\"\n"} {
		key, _, _ := strings.Cut(implied, "=")
		own, _, _ := strings.Cut(keys, "[")
		if !strings.Contains("\n"+own, "\n"+key) {
			keys = implied + keys
		}
	}
	keys = "[[forward]]\n" + keys
	st, sh := harness.NewAdminTestbed(t, keys)
	return &env{st, sh, path, keys}
}

// wantExplained waits for the expected verdict, and checks all that is printed and logged for
// passwords.
func (s *env) wantExplained(m failureCase) {
	t := s.Testbed.T
	t.Helper()
	id := cmp.Or(m.session, "1")
	var e explanation
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("%s %s\n%s", e.ID, e.Verdict.Code, s.output("explain", id))
		}
	})
	wrong := "no answer"
	t.Cleanup(func() {
		if wrong != "" {
			t.Log(wrong)
		}
	})
	harness.Await(t, "the verdict "+m.code, func() bool {
		e = explanation{}
		if text := s.output("explain", "--json", id); json.Unmarshal([]byte(text), &e) != nil {
			wrong = text
			return false
		}
		wrong = e.mismatch(m)
		return wrong == ""
	})
	printed := s.output("explain", id)
	verdict := regexp.QuoteMeta(e.Verdict.Text)
	if m.code == "waiting" { // it has the time until now
		verdict = strings.Trim(pattern(m.text, true).String(), "^$")
	}
	if !regexp.MustCompile(`(?m)^verdict    ` + verdict + `$`).MatchString(printed) {
		t.Errorf("got\n%s\nwant the verdict %q", printed, e.Verdict.Text)
	}
	harness.WantContains(t, printed, "session    "+e.ID+" of forward archive")
	for what, text := range map[string]string{"the text": printed,
		"the JSON": s.output("explain", "--json", id),
		"the list": s.output("sessions", "--ended"), "the log": s.Log(),
		"the transfer log": harness.ReadFile(t, s.TransferLog)} {
		if strings.Contains(text, harness.Password) {
			t.Errorf("%s has a password in it:\n%s", what, text)
		}
	}
}

// output returns what a command of ftpgate prints.
func (s *env) output(what string, args ...string) string {
	out, errs, _ := s.Run(what, args...)
	return out + errs
}

// mismatch returns what differs from the expectation, or "".
func (e explanation) mismatch(m failureCase) string {
	switch {
	case e.Verdict.Code != m.code:
		return fmt.Sprintf("the verdict is %s: %q; want %s", e.Verdict.Code, e.Verdict.Text, m.code)
	case !pattern(m.text, true).MatchString(e.Verdict.Text):
		return fmt.Sprintf("the verdict is\n%q; want\n%q", e.Verdict.Text, m.text)
	case !pattern(m.remedy, m.remedy == "").MatchString(e.Verdict.Remedy):
		return fmt.Sprintf("the remedy is\n%q; want %q in it", e.Verdict.Remedy, m.remedy)
	case !e.hasFault() && !slices.Contains([]string{"fine", "waiting", "server_refused_command"}, m.code):
		return fmt.Sprintf("the verdict %q is nowhere in the time line", e.Verdict.Text)
	}
	next := 0
	for _, event := range e.Events {
		line := event.Kind + " " + event.Text
		if m.absent != "" && pattern(m.absent, false).MatchString(line) {
			return fmt.Sprintf("got %q in the time line; want nothing like %q", line, m.absent)
		}
		if next < len(m.timeline) && pattern(m.timeline[next], false).MatchString(line) {
			next++
		}
	}
	for _, came := range m.anywhere {
		if !slices.ContainsFunc(e.Events, func(of event) bool {
			return pattern(came,
				false).MatchString(of.Kind + " " + of.Text)
		}) {
			return fmt.Sprintf("want %q in the time line", came)
		}
	}
	if next < len(m.timeline) {
		return fmt.Sprintf("want %q in the time line, behind what stands before it in the list",
			m.timeline[next])
	}
	return ""
}

// hasFault reports whether the verdict's text is in the time line.
func (e explanation) hasFault() bool {
	for _, event := range e.Events {
		// Long texts are cut.
		if event.Kind == "fault" && strings.HasPrefix(e.Verdict.Text, strings.TrimSuffix(event.Text, "...")) {
			return true
		}
	}
	return false
}

// pattern compiles an expected text.
func pattern(text string, whole bool) *regexp.Regexp {
	expr := strings.ReplaceAll(regexp.QuoteMeta(text), "#", `[0-9][0-9a-zµ.]*`)
	expr = strings.ReplaceAll(expr, "@", `(kernel|relay)`)
	expr = strings.ReplaceAll(expr, `\*`, `.*`)
	if whole {
		expr = "^" + expr + "$"
	}
	return regexp.MustCompile(expr)
}

// anyPath is the data path of cases that do not depend on it.
const anyPath = "relay"

// Entries of the time line for pinholes and data connections.
const (
	passivePinhole = "pinhole opened by the @ in #: 192.168.5.1 can connect to 192.168.5.2:#; the gateway " +
		"forwards to 203.0.113.21:# from 203.0.113.1"
	activePinhole = "pinhole opened by the @ in #: 203.0.113.21 can connect to 203.0.113.1:#; the gateway " +
		"forwards to 192.168.5.1:# from 192.168.5.2"
	clientConnected = "data the client connected # after the pinhole was opened"
	serverConnected = "data the server connected # after the pinhole was opened"
)

// passivePortsKey chooses passive ports that no other connection has as its source port.
const passivePortsKey = "passive_ports = \"20000-20100\"\n"

// dropPackets makes a host drop and count packets in hooks.
func dropPackets(t *testing.T, h *lab.Host, match string, hooks ...string) {
	t.Helper()
	labtest.Need(t, "nft")
	for _, hook := range hooks {
		harness.Shell(t, h, "nft 'table inet deaf { chain %s { type filter hook %[1]s priority 0; %s "+
			"counter drop; }; }'", hook, match)
	}
}

// awaitDropped waits until a host has dropped this many packets.
func awaitDropped(t *testing.T, h *lab.Host, atLeast int) {
	t.Helper()
	harness.Await(t, fmt.Sprintf("%d packets dropped on the %s", atLeast, h.Name()), func() bool {
		sum := 0
		for _, m := range counterPattern.FindAllStringSubmatch(harness.Shell(t, h,
			"nft list table inet deaf"), -1) {
			n, _ := strconv.Atoi(m[1])
			sum += n
		}
		return sum >= atLeast
	})
}

var counterPattern = regexp.MustCompile(`counter packets (\d+)`)

// dialInBackground dials until it succeeds or the test ends.
func dialInBackground(t *testing.T, h *lab.Host, to netip.AddrPort) {
	var gone sync.WaitGroup
	t.Cleanup(gone.Wait)
	gone.Go(func() {
		if c, err := h.Dial(t.Context(), "tcp", to.String()); err == nil {
			c.Close()
		}
	})
}
