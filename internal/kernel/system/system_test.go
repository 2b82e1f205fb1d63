package system

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab/labtest"
)

func TestCanAdministerNetwork(t *testing.T) {
	in(t, labtest.Host(t), func() error {
		if can, err := CanAdministerNetwork(); !can || err != nil {
			t.Errorf("own namespace: CanAdministerNetwork = %v, %v; want true, nil", can, err)
		}
		// Only the effective capabilities of this thread matter.
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var had [2]unix.CapUserData
		if err := unix.Capget(&header, &had[0]); err != nil {
			return err
		}
		less := had
		less[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err := unix.Capset(&header, &less[0]); err != nil {
			return err
		}
		can, err := CanAdministerNetwork()
		if err := unix.Capset(&header, &had[0]); err != nil {
			return err
		}
		if can || err != nil {
			t.Errorf("without CAP_NET_ADMIN: CanAdministerNetwork = %v, %v; want false, nil", can, err)
		}
		return nil
	})
}

// In a user namespace that shares another's network, a process has every capability, and none is valid.
func TestCanAdministerNetworkOfAnother(t *testing.T) {
	host := labtest.Host(t)
	child := start(t, "administer", func(cmd *exec.Cmd) error {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		return host.Start(cmd)
	})
	if want := "true <nil> false <nil>"; child.said != want {
		t.Errorf("capability, can = %s; want %s", child.said, want)
	}
}

func TestAddressesAndInterfaces(t *testing.T) {
	host, other := labtest.Host(t), labtest.Host(t)
	for _, p := range []string{"192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"} {
		if err := host.AddAddress("lo", netip.MustParsePrefix(p)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want ...string) func() error {
		return func() error {
			addrs, err := Addresses()
			if err != nil {
				return err
			}
			var got []string
			for _, a := range addrs {
				got = append(got, a.String())
			}
			if !slices.Equal(got, want) {
				t.Errorf("Addresses = %v; want %v", got, want)
			}
			return nil
		}
	}
	in(t, host, check("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1", "fe80::1"))
	in(t, other, check("127.0.0.1", "::1"))

	// The kernel may add fallback devices of tunnels (sit0) to every namespace: look only for the test's own.
	l := labtest.New(t)
	interfaces := func(want ...string) func() error {
		return func() error {
			got, err := Interfaces()
			if err != nil {
				return err
			}
			if !slices.IsSorted(got) {
				return errors.New("Interfaces are not in order")
			}
			for _, name := range []string{"eth0", "lan0", "lo", "wan0"} {
				if has, wanted := slices.Contains(got, name), slices.Contains(want, name); has != wanted {
					t.Errorf("Interfaces = %v: %s is among them: %v; want %v", got, name, has, wanted)
				}
			}
			return nil
		}
	}
	in(t, l.Gateway(), interfaces("lan0", "lo", "wan0"))
	in(t, l.Client(), interfaces("eth0", "lo"))
	in(t, host, interfaces("lo"))
}
