package system

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// onlyTwo is CAP_NET_BIND_SERVICE and CAP_NET_ADMIN, and noneAtAll no capability, as /proc shows them.
const (
	onlyTwo   = "0000000000001400"
	noneAtAll = "0000000000000000"
)

// two are the names of these two for setpriv(1).
const two = "-all,+net_admin,+net_bind_service"

// dropping is one way to start a program that keeps these two.
type dropping struct {
	setpriv []string
	// sets are those of each thread afterwards: inheritable, permitted, effective, bounding, ambient,
	// no_new_privs.
	sets     string
	can      string // what the program can still do
	uid      int    // the user of the program
	bounding string // its parent's bounding set, if it is not the two
}

func TestKeepCapabilities(t *testing.T) {
	labtest.Need(t, "setpriv")
	keepcaps := build(t)
	kept := []string{noneAtAll, onlyTwo, onlyTwo, onlyTwo, noneAtAll, "1"}
	empty := []string{noneAtAll, noneAtAll, noneAtAll, noneAtAll, noneAtAll, "1"}
	for name, tt := range map[string]dropping{
		"root": {sets: strings.Join(kept, " "), can: "listen forwarding own"},
		"root with the two only": {
			setpriv: []string{"--bounding-set=" + two}, sets: strings.Join(kept, " "),
			can: "listen forwarding own",
		},
		"a user with the two": {
			setpriv: []string{"--inh-caps=" + two, "--ambient-caps=" + two, "--bounding-set=" + two},
			sets:    strings.Join(kept, " "), can: "listen forwarding own", uid: 65534,
		},
		"a user with nothing": {
			setpriv: []string{"--inh-caps=-all", "--bounding-set=-all"}, sets: strings.Join(empty, " "),
			can: "own", uid: 65534,
		},
		"a user whom setuid programs could raise": {
			setpriv: []string{"--inh-caps=-all"}, sets: strings.Join(empty, " "), can: "own", uid: 65534,
			bounding: ownBounding(t),
		},
	} {
		t.Run(name, func(t *testing.T) { tt.check(t, keepcaps) })
	}
}

// build builds keepcaps. It is not a role of the test's own program, because the race detector needs cgo, and
// the threads of a program with cgo cannot be reached.
func build(t *testing.T) string {
	t.Helper()
	labtest.Need(t, "go")
	const source = "./testdata/keepcaps"
	tool := func(args ...string) ([]byte, error) {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOPROXY=off", "GOFLAGS=-buildvcs=false")
		return cmd.CombinedOutput()
	}
	if out, err := tool("list", "-deps", source); err != nil {
		labtest.Refused(t, fmt.Sprintf("this user cannot build programs here: %v: %.200s", err, out))
	}
	keepcaps := filepath.Join(shared(t), "keepcaps")
	if out, err := tool("build", "-o", keepcaps, source); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return keepcaps
}

// check runs keepcaps, and compares its output.
func (d dropping) check(t *testing.T, keepcaps string) {
	host := labtest.Host(t)
	// A new namespace has the value of its parent.
	if err := host.WriteSysctl("net.ipv4.ip_forward", "0"); err != nil {
		t.Fatal(err)
	}
	args := []string{keepcaps, d.files(t)}
	if len(d.setpriv) > 0 {
		args = slices.Concat([]string{"setpriv"}, d.setpriv, d.user(), args)
	}
	cmd := exec.Command(args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := host.Run(cmd); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, &out)
	}
	sets := strings.Fields(d.sets)
	if d.bounding != "" {
		sets[3] = d.bounding
	}
	seen := map[string]int{}
	var can []string
	for line := range strings.Lines(out.String()) {
		fields := strings.Fields(line)
		switch {
		case fields[0] == "try" && fields[2] == "true":
			can = append(can, fields[1])
		case fields[0] == "try":
		case fields[0] == "program" && d.programs(fields[1:], sets), slices.Equal(fields[1:], sets):
			seen[fields[0]]++
		default:
			t.Errorf("got %q; want %q", line, sets)
		}
	}
	if seen["thread"] < 8 || seen["later"] < 8 || seen["program"] != 1 {
		t.Errorf("got %v; want eight threads before and after, and a program", seen)
	}
	if got := strings.Join(can, " "); got != d.can {
		t.Errorf("afterwards it can: got %q; want %q", got, d.can)
	}
}

// programs reports whether a program that it starts has no capabilities beyond those allowed: the bounding
// set for user 0, none for others.
func (d dropping) programs(got, threads []string) bool {
	want := slices.Clone(threads)
	if d.uid != 0 {
		want[1], want[2] = noneAtAll, noneAtAll
	}
	return slices.Equal(got, want)
}

// user returns setpriv's arguments for another user than root. If this namespace has no other user, they are
// for a root without the kernel's special treatment.
func (d dropping) user() []string {
	switch {
	case d.uid == 0:
		return nil
	case !mapped():
		return []string{"--securebits=+noroot"}
	}
	return []string{fmt.Sprint("--reuid=", d.uid), fmt.Sprint("--regid=", d.uid), "--clear-groups"}
}

// files makes a file of the program's user and one of another user in the directory that it returns. Only
// their owners can read them.
func (d dropping) files(t *testing.T) string {
	dir := shared(t)
	owners := map[string]int{"own": d.uid, "theirs": 65533}
	for name, owner := range owners {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if !mapped() {
			if name == "theirs" {
				os.Remove(file)
			}
			continue
		}
		if err := os.Chown(file, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mapped reports whether there are other users than root, which an ordinary user's namespace does not have.
func mapped() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(text))
	return err == nil && len(fields) == 3 && fields[2] != "1"
}

// shared makes a directory that every user can enter.
func shared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// ownBounding returns this process's bounding set.
func ownBounding(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "CapBnd:")
	return strings.Fields(after)[0]
}
