package system

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const (
	builtinList = "lib/modules/6.1.0-13-amd64/modules.builtin"
	notFound    = "modprobe: FATAL: Module nf_nat_ftp not found in directory /lib/modules/6.1.0-13-amd64"
)

// files returns a file system with these paths and texts.
func files(pairs ...string) fstest.MapFS {
	root := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		root[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return root
}

// unreadable is a file system whose files exist but cannot be read.
type unreadable struct{ fs.FS }

func (u unreadable) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

func TestLoadModule(t *testing.T) {
	fails := func(text string) func(fstest.MapFS) error {
		return func(fstest.MapFS) error { return errors.New(text) }
	}
	// loads is a modprobe that works.
	loads := func(root fstest.MapFS) error {
		root["sys/module/nf_nat_ftp/initstate"] = &fstest.MapFile{Data: []byte("live\n")}
		return nil
	}
	pretends := func(fstest.MapFS) error { return nil }
	const other = "ffffffff81f5b000 t nf_conntrack_init\n"
	for _, tt := range []struct {
		name     string
		root     fstest.MapFS
		modprobe func(fstest.MapFS) error // nil: must not run
		want     ModuleState
		why      string
	}{
		{"loaded before", files("sys/module/nf_nat_ftp/initstate", "live\n"), nil, ModulePresent, ""},
		{"loaded, without sysfs",
			files("proc/modules", "nf_nat 61440 1 nf_nat_ftp, Live 0x0\nnf_nat_ftp 12288 0 - Live 0x0\n"),
			nil, ModulePresent, ""},
		{"listed as built in",
			files(builtinList, "kernel/fs/ext4/ext4.ko\nkernel/net/netfilter/nf_nat_ftp.ko\n"), nil,
			ModulePresent, ""},
		{"listed below /usr", files("usr/"+builtinList, "kernel/net/netfilter/nf-nat-ftp.ko\n"), nil,
			ModulePresent, ""},
		{"listed for another kernel",
			files("lib/modules/6.1.0-9-amd64/modules.builtin", "kernel/nf_nat_ftp.ko\n"), fails(notFound),
			ModuleUnknown, notFound},
		{"loaded now", files("sys/module/nf_nat/initstate", ""), loads, ModuleLoaded, ""},
		{"loaded now, by modprobe's word alone", files(), pretends, ModuleLoaded, ""},
		{"install /bin/true",
			files("sys/module/nf_nat/initstate", "", builtinList, "kernel/fs/ext4/ext4.ko\n"), pretends,
			ModuleMissing,
			`modprobe reports success but loads nothing: look for "install nf_nat_ftp" in /etc/modprobe.d`},
		{"install /bin/true, built in",
			files("sys/module/nf_nat/initstate", "", "proc/kallsyms", "ffffffff837e7ae0 t nf_nat_ftp_init\n"),
			pretends, ModulePresent, ""},
		{"symbols, no modprobe", files("proc/kallsyms", other+"ffffffff837e7ae0 t nf_nat_ftp_init\n"),
			fails("modprobe is not installed"), ModulePresent, ""},
		{"symbols with zeroed addresses", files("proc/kallsyms", "0000000000000000 t nf_nat_ftp_init\n"),
			fails(notFound), ModulePresent, ""},
		{"symbols with a compiler's suffix",
			files("proc/kallsyms", "0000000000000000 t nf_nat_ftp_init.cfi_jt\n"), fails(notFound),
			ModulePresent, ""},
		{"symbols of a loaded module", files("proc/kallsyms", "ffffffffc0a01000 t help\t[nf_nat_ftp]\n"),
			fails(notFound), ModulePresent, ""},
		{"symbols of another module of like name",
			files("proc/kallsyms",
				other+"ffffffff837e7000 B nf_nat_ftp_hook\nffffffff837e7000 t nf_nat_ftp_init\t[other]\n"),
			fails(notFound), ModuleMissing, notFound},
		{"not in the kernel, no modprobe", files("proc/kallsyms", other), fails("modprobe is not installed"),
			ModuleMissing, "modprobe is not installed"},
		{"not in the kernel's list", files(builtinList, "kernel/fs/ext4/ext4.ko\n"), fails(notFound),
			ModuleMissing, notFound},
		{"a name that ends alike",
			files(builtinList, "kernel/net/my_nf_nat_ftp.ko\nkernel/nf_nat_ftp.ko/x.ko\n"), fails(notFound),
			ModuleMissing, notFound},
		{"masked kallsyms", files("proc/kallsyms", ""), fails(notFound), ModuleUnknown, notFound},
		{"nothing to see", files(), fails("modprobe is not installed"), ModuleUnknown,
			"modprobe is not installed"},
	} {
		ran := 0
		modprobe := func(_ context.Context, name string) error {
			if ran++; name != "nf_nat_ftp" {
				t.Errorf("%s: modprobe %s; want nf_nat_ftp", tt.name, name)
			}
			if tt.modprobe == nil {
				return nil
			}
			return tt.modprobe(tt.root)
		}
		h := host{root: tt.root, release: "6.1.0-13-amd64", modprobe: modprobe}
		for _, name := range []string{"nf_nat_ftp", "nf-nat-ftp"} {
			before := ran
			if name == "nf-nat-ftp" && tt.want == ModuleLoaded {
				continue // the module is present by now
			}
			want := Module{Name: "nf_nat_ftp", State: tt.want, Why: tt.why}
			if got := h.load(context.Background(), name); got != want {
				t.Errorf("%s: load(%s) = %+v; want %+v", tt.name, name, got, want)
			}
			if should := tt.modprobe != nil; (ran > before) != should {
				t.Errorf("%s: modprobe ran: %v; want %v", tt.name, ran > before, should)
			}
		}
	}
}

func TestLoadModuleUnreadable(t *testing.T) {
	h := host{root: unreadable{}, release: "6.1.0-13-amd64", modprobe: func(context.Context, string) error {
		return errors.New("operation not permitted")
	}}
	want := Module{Name: "nf_nat_ftp", State: ModuleUnknown, Why: "operation not permitted"}
	if got := h.load(context.Background(), "nf_nat_ftp"); got != want {
		t.Errorf("load = %+v; want %+v", got, want)
	}
}

func TestLoadModuleNames(t *testing.T) {
	h := host{root: files(), modprobe: func(_ context.Context, name string) error {
		t.Errorf("modprobe %s; want it not to run", name)
		return nil
	}}
	for _, name := range []string{"", "-r", "--remove", "../x", "a b", "nf\x00", "ü"} {
		got := h.load(context.Background(), name)
		if got.State != ModuleMissing || !strings.HasSuffix(got.Why, "is no module's name") {
			t.Errorf("load(%q) = %+v; want it refused", name, got)
		}
	}
}

// fakeModprobe puts a shell script first in PATH.
func fakeModprobe(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "modprobe"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestModprobe(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"works", `test "$*" = "-- nf_nat_ftp" && test "$LC_ALL" = C`, "<nil>"},
		{"complains", "echo first >&2; echo ' last ' >&2; exit 1", "last"},
		{"fails in silence", "exit 3", "modprobe nf_nat_ftp: exit status 3"},
	} {
		fakeModprobe(t, tt.script)
		got := "<nil>"
		if err := modprobe(context.Background(), "nf_nat_ftp"); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: modprobe = %s; want %s", tt.name, got, tt.want)
		}
	}
}

func TestModprobeHangs(t *testing.T) {
	fakeModprobe(t, "exec sleep 60")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err := modprobe(ctx, "nf_nat_ftp")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("modprobe = %v; want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("modprobe took %v; want it to end with its context", took)
	}
}

// On this kernel: a module that no kernel has is never found.
func TestLoadModules(t *testing.T) {
	got := LoadModules(context.Background(), "ftpgate_no_such_module", "-x")
	if len(got) != 2 || got[0].Name != "ftpgate_no_such_module" || got[1].Name != "-x" {
		t.Fatalf("LoadModules = %+v; want a result for each, in order", got)
	}
	for _, m := range got {
		if m.State == ModulePresent || m.State == ModuleLoaded || m.Why == "" {
			t.Errorf("LoadModules: %s is %s (%s); want it missing or unknown, with a reason",
				m.Name, m.State, m.Why)
		}
	}
}

func TestKernelBefore(t *testing.T) {
	for release, want := range map[string]bool{
		"4.19.0-27-amd64": true, "5.9.16": true, "5.11.0-49-generic": true, "5.12.0": false,
		"5.15.0-91-generic": false, "6.1.0-50-amd64": false, "": false, "unknown": false,
	} {
		if got := KernelBefore(release, 5, 12); got != want {
			t.Errorf("%q is before 5.12: got %v; want %v", release, got, want)
		}
	}
}
