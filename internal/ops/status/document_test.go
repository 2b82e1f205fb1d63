package status

import (
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/config"
	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/gateway/repair"
	"ftpgate/internal/observe/health"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

var update = flag.Bool("update", false, "rewrite the examples of docs/api.md")

const document = "../../../docs/api.md"

// The examples of docs/api.md are what ftpgate answers. Package admin checks how it writes them.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var examples map[string]string
	synctest.Test(t, func(t *testing.T) { examples = answers(t) })
	shown := string(text)
	for command, answer := range examples {
		want := replaceExample(t, shown, command, answer)
		if want != shown && !*update {
			t.Errorf("%s is not answered like that, but (-update writes it)\n%s", command, answer)
		}
		shown = want
	}
	if *update {
		if err := os.WriteFile(document, []byte(shown), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// replaceExample puts an answer below a command of the document.
func replaceExample(t *testing.T, text, command, answer string) string {
	t.Helper()
	command += "\n```\n```json\n"
	before, after, found := strings.Cut(text, command)
	_, after, closed := strings.Cut(after, "\n```\n")
	if !found || !closed {
		t.Fatalf("no example has %s", command)
	}
	return before + command + answer + "```\n" + after
}

// list returns sessions as package admin writes them.
func list(t *testing.T, all []sessions.Session) string {
	var lines []string
	for _, s := range all {
		line, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	return "{\"sessions\": [\n" + strings.Join(lines, ",\n") + "\n]}\n"
}

// object returns what package admin writes of a value.
func object(t *testing.T, v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// answers has a gateway live through what the document shows, and returns its answers by the ends of the
// document's commands.
func answers(t *testing.T) map[string]string {
	at := func(text string) { // waits until then
		until, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(until))
	}
	at("2026-01-01T01:43:32.481Z")
	s := documentSource(t)
	for range 8 {
		done, d := documentSession(s, true)
		time.Sleep(time.Second)
		d.Over = true
		done.TransferFinished(true, "226 Transfer complete.", nil)
		done.Ended("")
	}
	at("2026-03-14T08:26:53Z")
	ended, _ := documentSession(s, false)
	time.Sleep(21 * time.Second)
	const failed = "425 Failed to establish connection."
	ended.Reply(time.Now(), failed, false)
	ended.TransferFinished(false, failed, nil)
	time.Sleep(time.Second)
	ended.Ended("")
	for range 7 {
		begin(s, "archive").Ended("")
	}

	at("2026-03-14T09:00:00Z")
	s.SessionLog.Finalize(time.Now())
	file := unsound(t)
	_, err := config.Load(file)
	if err == nil {
		t.Fatal("the file is sound")
	}
	s.SetReload(time.Now(), errors.New(strings.ReplaceAll(err.Error(), file, s.File)))
	at("2026-03-14T09:26:53Z")
	running, _ := documentSession(s, true)
	time.Sleep(2 * time.Second)
	if running.ID() != "3p5kx-17" || ended.ID() != "3p5kx-9" {
		t.Fatalf("got sessions %s and %s; want those of the document", ended.ID(), running.ID())
	}
	explained, _ := s.Explain(running.ID())
	endedOnes := slices.DeleteFunc(slices.Collect(s.Sessions(true)),
		func(e sessions.Session) bool { return e.ID != ended.ID() })
	return map[string]string{
		"http://localhost/v1/status": object(t, documentStatus(t, s)),
		"http://localhost/v1/sessions": list(t,
			slices.Collect(s.Sessions(false))),
		"'http://localhost/v1/sessions?state=ended&client=192.168.5.0/24'": list(t, endedOnes),
		".sock http://localhost/v1/sessions/3p5kx-17":                      object(t, explained),
		"-X DELETE --unix-socket /run/ftpgate.sock http://localhost/v1/sessions/3p5kx-9": object(t,
			map[string]string{"error": s.Kill(ended.ID()).Error()}) + "409\n",
	}
}

// unsound returns the name of a configuration file with a fault.
func unsound(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "ftpgate.toml")
	text := "[[forward]]\nname = \"archive\"\nlisten = \":2121\"\nserver = \"ftp.example.com\"\ntrackin = " +
		"\"proxy\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// documentSource returns a gateway with a certificate, whose table another program has changed, and whose
// server does not answer its checks.
func documentSource(t *testing.T) *Source {
	f := archive()
	f.Listen.Addr, f.TLS.Client = netip.MustParseAddr("192.168.5.2"), forward.ClientTLSOptional
	s := newSource(f)
	s.Version, s.File = "0.2.0 (commit 0123456789ab)", "/etc/ftpgate/ftpgate.toml"
	checked := time.Date(2026, 3, 14, 9, 26, 50, 0, time.UTC)
	s.Expiries = func() []tlskeys.Expiry {
		return []tlskeys.Expiry{{Forwards: []string{"archive"}, File: "/etc/ftpgate/cert.pem",
			Subject: "CN=gw.example.com", NotAfter: checked.Add(20*24*time.Hour + time.Hour)}}
	}
	s.Repairs = func() repair.State {
		return repair.State{Repairs: 1, Last: checked.Add(-time.Hour), By: "nft (pid 7)"}
	}
	s.Health = func(string) health.State {
		return health.State{Since: checked.Add(-time.Minute), Checked: checked,
			Why:    "no connection: 203.0.113.21:21: i/o timeout",
			Remedy: "see that the server runs, and that firewalls let this gateway reach it"}
	}
	s.SetKernel(true, nil)
	return s
}

// documentStatus returns the status, with what depends on the host as the document has it.
func documentStatus(t *testing.T, s *Source) admin.Status {
	st := s.Status()
	if !regexp.MustCompile(`^go1\S* linux/\w+$`).MatchString(st.Build) || st.PID != os.Getpid() {
		t.Errorf("got build %q, process %d", st.Build, st.PID)
	}
	st.Build, st.PID, st.Conntrack = "go1.26.0 linux/amd64", 4711, &admin.Conntrack{Count: 312, Max: 262_144}
	f := &st.Forwards[0]
	since := f.Health.Since
	f.Problem = strings.Replace(f.Problem, since.Local().Format(time.DateTime), since.Format(time.DateTime),
		1)
	return st
}

// carried is a data connection whose outcome the test sets.
type carried pinhole.Outcome

func (c *carried) Outcome() pinhole.Outcome { return pinhole.Outcome(*c) }

// documentSession records a session whose client asks for a file. It gets 10 MB of it, or does not connect.
func documentSession(s *Source, connects bool) (*sessions.Record, *carried) {
	client, gateway := netip.MustParseAddrPort("192.168.5.17:40112"),
		netip.MustParseAddrPort("192.168.5.2:2121")
	server := netip.MustParseAddrPort("203.0.113.21:21")
	r := s.SessionLog.Begin(sessions.Start{Forward: "archive", Tracking: forward.TrackingProxy,
		Client: client, Gateway: gateway, Passive: forward.DefaultPassivePorts})
	time.Sleep(9 * time.Millisecond)
	r.Connected(server, 9*time.Millisecond)
	exchange := func(command, reply string) {
		r.Command(time.Now(), command)
		time.Sleep(time.Millisecond)
		r.Reply(time.Now(), reply, false)
	}
	r.Reply(time.Now(), "220 (vsFTPd 3.0.5)", false)
	r.Encrypted("client", "TLS 1.3", "TLS_AES_128_GCM_SHA256")
	exchange("USER anna", "331 Please specify the password.")
	r.User("anna")
	exchange("PASS (not shown)", "230 Login successful.")
	r.Login(true)
	exchange("TYPE I", "200 Switching to Binary mode.")
	r.Type("I")
	exchange("PASV", "227 Entering Passive Mode (203,0,113,21,100,1).")
	asked := time.Now()
	time.Sleep(time.Millisecond)
	d := &carried{Path: forward.DataRelay, Counted: true, Complete: true}
	if connects {
		d.Connected, d.Down = time.Now().Add(time.Millisecond), 10_485_760
	}
	r.Opened(sessions.Data{Mode: "PASV", Path: "relay", From: client.Addr(),
		Listen: netip.AddrPortFrom(gateway.Addr(), 51234), Target: netip.AddrPortFrom(server.Addr(), 25601),
		SourceIP: netip.MustParseAddr("203.0.113.1"), TLS: sessions.TLS{Client: "TLS"}, Meter: d}, asked)
	r.Answer("227 Entering Passive Mode (192,168,5,2,200,34).")
	r.TransferStarted(time.Now(), "RETR", "/pub/a.iso")
	r.Command(time.Now(), "RETR /pub/a.iso")
	if connects {
		r.Reply(time.Now(), "150 Opening BINARY mode data connection for /pub/a.iso (734003200 bytes).",
			false)
	}
	return r, d
}
