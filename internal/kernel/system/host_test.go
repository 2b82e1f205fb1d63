package system

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestSysctls(t *testing.T) {
	gateway := labtest.New(t).Gateway()
	if err := gateway.WriteSysctl("net.ipv4.conf.wan0.rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	in(t, gateway, func() error {
		got, unread := Sysctls("net.ipv4.conf.wan0.rp_filter", "net.ipv4.conf.none.rp_filter", "//.//.x")
		if want := map[string]string{"net.ipv4.conf.wan0.rp_filter": "1"}; !maps.Equal(got, want) {
			t.Errorf("got %v; want %v", got, want)
		}
		if len(unread) != 1 || unread[0].What != "//.//.x" {
			t.Errorf("got %v; want the name that leads out", unread)
		}
		return nil
	})
}

// A name with a dot, a value that cannot be read, and the limit of the table. The test uses a directory of
// its own, because a namespace cannot set nf_conntrack_max.
func TestSysctlsOfADirectory(t *testing.T) {
	dir := t.TempDir()
	for path, value := range map[string]string{
		"net/netfilter/nf_conntrack_max":  "10\n",
		"net/ipv4/conf/eth0.10/rp_filter": "2\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "net/no"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, unread := sysctls(dir, []string{
		"net.netfilter.nf_conntrack_max", "net.ipv4.conf.eth0/10.rp_filter", "net.no", "net.not.there"})
	want := map[string]string{"net.netfilter.nf_conntrack_max": "10", "net.ipv4.conf.eth0/10.rp_filter": "2"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	if want := []Unread{{"net.no", "is a directory"}}; !slices.Equal(unread, want) {
		t.Errorf("got %v; want %v", unread, want)
	}
}

func TestExpectations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nf_conntrack_expect")
	if _, err := expectations(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the file: got %v; want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte("300 l3proto = 2\n299 l3proto = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := expectations(path); n != 2 || err != nil {
		t.Errorf("got %d, %v; want 2", n, err)
	}
	in(t, labtest.Host(t), func() error { // a namespace of an ordinary user, where the file belongs to root
		n, err := Expectations()
		if n != 0 || err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %d, %v; want none, or that they cannot be read", n, err)
		}
		return nil
	})
}

func TestLegacyTables(t *testing.T) {
	dir := t.TempDir()
	if tables, err := legacyTables(dir); len(tables) > 0 || err != nil {
		t.Errorf("without the files: got %v, %v; want none", tables, err)
	}
	names := map[string]string{"ip_tables_names": "raw\nfilter\n", "ip6_tables_names": "filter\n"}
	for name, text := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if tables, err := legacyTables(dir); !slices.Equal(tables, []string{"filter", "raw"}) || err != nil {
		t.Errorf("got %v, %v; want filter and raw", tables, err)
	}
}

func TestOwnRights(t *testing.T) {
	in(t, labtest.Host(t), func() error {
		own, err := OwnRights()
		if err != nil || !own.Administer || !own.BindLow || own.OpenFiles == 0 {
			t.Errorf("got %+v, %v; want every right, in a namespace of our own", own, err)
		}
		return withoutCapabilities(func() error {
			own, err := OwnRights()
			if err != nil || own.Administer || own.BindLow {
				t.Errorf("without capabilities: got %+v, %v; want no right", own, err)
			}
			return nil
		})
	})
}

// withoutCapabilities calls f without effective capabilities. The caller has locked the thread.
func withoutCapabilities(f func() error) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		return err
	}
	none := before
	none[0].Effective, none[1].Effective = 0, 0
	if err := unix.Capset(&header, &none[0]); err != nil {
		return err
	}
	return errors.Join(f(), unix.Capset(&header, &before[0]))
}

func TestRightsOf(t *testing.T) {
	other := start(t, "listen 127.0.0.1:0", labtest.Host(t).Start)
	r, err := RightsOf(other.Process.Pid)
	if err != nil || !r.Administer || !r.BindLow || r.OpenFiles == 0 {
		t.Errorf("got %+v, %v; want every right", r, err)
	}
	other.kill(t)
	if r, err := RightsOf(other.Process.Pid); err == nil {
		t.Errorf("of a process that is gone: got %+v; want an error", r)
	}
}

func TestFindModules(t *testing.T) {
	h := host{release: "6.1", root: fstest.MapFS{
		"sys/module/nf_tables/refcnt":     {},
		"proc/modules":                    {Data: []byte("nf_tables 1 0 - Live 0x0\n")},
		"lib/modules/6.1/modules.builtin": {Data: []byte("kernel/net/ipv4/tcp_cubic.ko\n")},
		"usr/lib/modules/6.1/modules.dep": {Data: []byte(
			"kernel/net/netfilter/nf-nat_ftp.ko.xz: kernel/a.ko.xz kernel/nf_other.ko\n")},
		"usr/lib/modules/6.1/modules.alias": {},
	}}
	got := h.find([]string{"nf_tables", "tcp_cubic", "nf_nat_ftp", "nf_other", "../x"})
	want := []Module{
		{"nf_tables", ModulePresent, "", false}, {"tcp_cubic", ModulePresent, "", false},
		{"nf_nat_ftp", ModuleMissing, "", true}, {"nf_other", ModuleMissing, "", false},
		{"../x", ModuleMissing, "", false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
	const symbols = "0 t nf_tables_module_init\n0 t nf_nat_ftp_init\n0 t nf_nat_ftp_hook\n"
	h = host{root: fstest.MapFS{"proc/kallsyms": {Data: []byte(symbols)}}}
	got = h.find([]string{"nf_tables", "nf_nat_ftp", "nf_conntrack_ftp"})
	want = []Module{{"nf_tables", ModulePresent, "", false}, {"nf_nat_ftp", ModulePresent, "", false},
		{"nf_conntrack_ftp", ModuleMissing, "", false}}
	if !slices.Equal(got, want) {
		t.Errorf("built in, without a list: got %+v; want %+v", got, want)
	}
	h = host{root: fstest.MapFS{}}
	got = h.find([]string{"nf_tables"})
	if got[0].State != ModuleUnknown || got[0].Loadable {
		t.Errorf("of a host that shows nothing: got %+v; want unknown", got)
	}
}

func TestTimedResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no such host")
		r := NewTimedResolver(func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			<-time.After(3 * time.Second)
			if host == "no" {
				return nil, broken
			}
			return []netip.Addr{lab.ServerAddr4}, nil
		})
		addrs, err := r.LookupNetIP(t.Context(), "ip", "ftp.example")
		if err != nil || !slices.Equal(addrs, []netip.Addr{lab.ServerAddr4}) {
			t.Errorf("got %v, %v; want the address", addrs, err)
		}
		if _, err := r.LookupNetIP(t.Context(), "ip", "no"); err != broken {
			t.Errorf("got %v; want the resolver's error", err)
		}
		want := []Lookup{{"ftp.example", 3 * time.Second}, {"no", 3 * time.Second}}
		if got := r.Lookups(); !slices.Equal(got, want) {
			t.Errorf("got %v; want %v", got, want)
		}
	})
}
