package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/instances"
)

// host is a host with these ftpgates, each at a socket of its own, and how a command finds them.
func host(t *testing.T, all ...*answers) *adminFlags {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // t.TempDir has names that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := instances.Places{UID: os.Geteuid(), Run: dir, Temp: dir, Default: dir + "/ftpgate.sock"}
	for i, a := range all {
		socket, err := p.NewSocket(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		answeringAt(t, socket, a)
	}
	return &adminFlags{places: p}
}

// aForward is an ftpgate with a forward, and aRun one with a file. Both have a session with the number 1.
func aForward() *answers {
	one := sessions.Session{ID: "aaaaa-1", Forward: ":2121", User: "anna", Since: time.Unix(2, 0)}
	return &answers{running: []sessions.Session{one, {ID: "1"}}, status: admin.Status{PID: 1,
		Since:    time.Unix(1, 0),
		Forwards: []admin.Forward{{Name: ":2121", Listen: ":2121", Server: "ftp.example.com:21"}}}}
}

func aRun() *answers {
	one := sessions.Session{ID: "bbbbb-1", Forward: "camera", User: "bert", Since: time.Unix(1, 0)}
	return &answers{running: []sessions.Session{one, {ID: "1"}}, status: admin.Status{PID: 2,
		Since: time.Unix(2, 0), File: "/etc/ftpgate/ftpgate.toml",
		Forwards: []admin.Forward{{Name: "camera", Listen: ":2122", Server: "203.0.113.21:21"}}}}
}

// reachFound finds the ftpgates until the test ends.
func reachFound(t *testing.T, a *adminFlags) *daemons {
	t.Helper()
	d, err := a.reach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// TestSeveral: status and sessions show all, and say which is which.
func TestSeveral(t *testing.T) {
	a := host(t, aForward(), aRun())
	d := reachFound(t, a)
	pid := fmt.Sprint(os.Getpid())
	var out strings.Builder
	if err := printStatuses(&out, d, &outputFormat{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"process " + pid + ": forward :2121 leads to ftp.example.com:21\nftpgate ",
		"\n\nprocess " + pid + ": /etc/ftpgate/ftpgate.toml\nftpgate "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("status: got\n%s\nwant in it %q", &out, want)
		}
	}
	l := &sessionsCommand{adminFlags: a}
	var table strings.Builder
	cmd := &cobra.Command{}
	cmd.SetOut(&table)
	if err := l.print(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(table.String(), "\n")
	got := []string{strings.Fields(lines[0])[0], strings.Fields(lines[3])[0] + " " +
		strings.Fields(lines[3])[1],
		strings.Fields(lines[4])[1]}
	if want := []string{"PROCESS", pid + " bbbbb-1", "aaaaa-1"}; !slices.Equal(got, want) {
		t.Errorf("sessions: got\n%s\nwant the column of the process, and the oldest first", &table)
	}
	l.filter.Forward = "kamera"
	if err := l.print(t.Context(), cmd); err == nil ||
		err.Error() != `no forward "kamera": there are :2121, camera` {
		t.Errorf("sessions of no forward: got error %v", err)
	}
}

// instancesJSON is what status and sessions print as JSON. docs/api.md has the names.
type instancesJSON struct {
	Instances []struct {
		PID, UID      int
		Socket, Error string
		Status        *admin.Status
		Sessions      []sessions.Session
	}
}

// TestSeveralJSON: the JSON is a list, also of one, unless a flag names the one.
func TestSeveralJSON(t *testing.T) {
	for _, all := range [][]*answers{{aForward()}, {aForward(), aRun()}} {
		a := host(t, all...)
		var status, list strings.Builder
		cmd := &cobra.Command{}
		cmd.SetOut(&list)
		l := &sessionsCommand{adminFlags: a, outputFormat: outputFormat{json: true}}
		err := errors.Join(printStatuses(&status, reachFound(t, a), &l.outputFormat), l.print(t.Context(),
			cmd))
		for what, text := range map[string]string{"status": status.String(), "sessions": list.String()} {
			var got instancesJSON
			err := errors.Join(err, json.Unmarshal([]byte(text), &got))
			if err != nil || len(got.Instances) != len(all) {
				t.Fatalf("%s: got %s, error %v; want a list of %d", what, text, err, len(all))
			}
			for _, i := range got.Instances {
				if i.PID != os.Getpid() || i.UID != os.Geteuid() || i.Socket == "" || i.Error != "" ||
					(i.Status == nil) != (what == "sessions") || what == "sessions" && len(i.Sessions) != 2 {
					t.Errorf("%s: got %+v", what, i)
				}
			}
		}
		a.instance = ":2121"
		list.Reset()
		var one struct{ Sessions []sessions.Session }
		if err := errors.Join(l.print(t.Context(), cmd), json.Unmarshal([]byte(list.String()),
			&one)); err != nil ||
			len(one.Sessions) != 2 {
			t.Errorf("sessions --instance :2121: got %s, error %v; want the API's answer", &list, err)
		}
	}
}

// TestChoose: --instance names one by its process, file or forward.
func TestChoose(t *testing.T) {
	a := host(t, aForward(), aRun())
	for name, want := range map[string]string{":2121": "forward :2121", "camera": "ftpgate.toml",
		":2122": "ftpgate.toml", "/etc/ftpgate/ftpgate.toml": "ftpgate.toml",
		"kamera":                 `no running ftpgate is "kamera":` + "\n  process ",
		fmt.Sprint(os.Getpid()):  "2 running ftpgates are \"" + fmt.Sprint(os.Getpid()) + "\": choose one",
		fmt.Sprint(-os.Getpid()): "no running ftpgate is"} {
		a.instance = name
		d, err := a.reach(t.Context())
		var got string
		if err != nil {
			got = err.Error()
		} else {
			got = d.describe(d.found[0])
			d.close()
		}
		if !strings.Contains(got, want) {
			t.Errorf("--instance %s: got %q; want %q", name, got, want)
		}
	}
}

// TestHaving: a command acts on the ftpgate that has the session, and on none if two have it.
func TestHaving(t *testing.T) {
	d := reachFound(t, host(t, aForward(), aRun()))
	for session, want := range map[string]*admin.Client{"aaaaa-1": d.found[0].Client,
		"bbbbb-1": d.found[1].Client} {
		if got, err := d.having(t.Context(), session); err != nil || got != want {
			t.Errorf("%s: got another client, error %v; want that of its ftpgate", session, err)
		}
	}
	for session, want := range map[string]string{
		"1": "2 running ftpgates have a session 1: choose one with --instance PROCESS\n  process ",
		"2": "no running ftpgate has a session 2",
	} {
		if _, err := d.having(t.Context(), session); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got error %v; want %q", session, err, want)
		}
	}
	if _, err := d.one(); err == nil || !strings.HasPrefix(err.Error(),
		"which ftpgate is meant? choose one") {
		t.Errorf("one of two: got error %v", err)
	}
	if got, err := d.gateway(); err != nil || got != d.found[1].Client {
		t.Errorf("reload: got another client, error %v; want that of the one with a file", err)
	}

	a := host(t, aRun(), aRun())
	answeringAt(t, a.places.Default, aRun())
	d = reachFound(t, a)
	at := slices.IndexFunc(d.found, func(i *instances.Instance) bool { return i.Socket == a.places.Default })
	if got, err := d.gateway(); err != nil || at < 0 || got != d.found[at].Client {
		t.Errorf("reload with three files: got another client, error %v; want that of the service", err)
	}
}

// TestSilent: one that does not answer is named, and does not keep the others from being shown.
func TestSilent(t *testing.T) {
	a := host(t, aForward())
	socket, err := a.places.NewSocket(3)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := reachFound(t, a)
	cmd := &cobra.Command{}
	var out, errs strings.Builder
	cmd.SetErr(&errs)
	if err := printStatuses(&out, d, &outputFormat{}); err != nil ||
		!strings.Contains(out.String(), "forward :2121 leads to") {
		t.Errorf("got %s, error %v; want the one that answers", &out, err)
	}
	want := fmt.Sprintf("ftpgate: process %d at %s: it does not answer within 1s\n", os.Getpid(), socket)
	var f failure
	if err := d.reportSilent(cmd); !errors.As(err, &f) || f.status != exitFailed || errs.String() != want {
		t.Errorf("got error %v, %q; want exit status 1 and %q", err, &errs, want)
	}
	out.Reset()
	var got instancesJSON
	if err := errors.Join(printStatuses(&out, d, &outputFormat{json: true}),
		json.Unmarshal([]byte(out.String()), &got)); err != nil || len(got.Instances) != 2 ||
		got.Instances[1].Error != "it does not answer within 1s" {
		t.Errorf("got %s, error %v; want what it is and why it is silent", &out, err)
	}
}

// TestOutputFormat: -o takes two words, and --json is one of them.
func TestOutputFormat(t *testing.T) {
	for _, tt := range []struct {
		args []string
		json bool
		err  string
	}{
		{nil, false, ""}, {[]string{"-o", "json"}, true, ""}, {[]string{"--json"}, true, ""},
		{[]string{"--output=text"}, false, ""},
		{[]string{"-o", "yaml"}, false,
			`invalid argument "yaml" for "-o, --output" flag: there are text and json`},
	} {
		o := &outputFormat{}
		cmd := &cobra.Command{}
		o.add(cmd, "")
		err := cmd.ParseFlags(tt.args)
		if o.json != tt.json || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%q: got %t, error %v; want %t, %q", tt.args, o.json, err, tt.json, tt.err)
		}
	}
}

// TestGateway: what other users run is not the gateway, even if it is alone.
func TestGateway(t *testing.T) {
	instance := func(socket, file string, foreign bool) *instances.Instance {
		return &instances.Instance{Client: admin.NewClient(socket, ""), Socket: socket, Foreign: foreign,
			Status: admin.Status{File: file}}
	}
	service, own := instance("/run/ftpgate.sock", "/etc/a", false), instance("/run/own", "/etc/b", false)
	forward := instance("/run/forward", "", false)
	other, others := instance("/tmp/other", "/etc/c", true), instance("/tmp/others", "", true)
	for _, tt := range []struct {
		found []*instances.Instance
		want  *instances.Instance
	}{
		{[]*instances.Instance{own, other, service, forward}, service},
		{[]*instances.Instance{other, forward, own}, own},
		{[]*instances.Instance{other, others, forward}, forward},
		{[]*instances.Instance{forward, forward}, nil},
		{[]*instances.Instance{other}, nil},
	} {
		d := &daemons{found: tt.found, service: service.Socket}
		got, err := d.gateway()
		if (err == nil) != (tt.want != nil) || err == nil && got != tt.want.Client {
			t.Errorf("%s: got another client, error %v", d.list(d.found), err)
		}
	}
}
