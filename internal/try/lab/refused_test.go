package lab

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestDiagnose(t *testing.T) {
	tests := []struct {
		name       string
		errno      syscall.Errno
		privileged bool
		sysctls    map[string]string
		why        string
		remedy     string
	}{
		{"Debian's switch", syscall.EPERM, false, map[string]string{"kernel/unprivileged_userns_clone": "0"},
			"kernel.unprivileged_userns_clone=0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"AppArmor", syscall.EPERM, false, map[string]string{"kernel/unprivileged_userns_clone": "1",
			"kernel/apparmor_restrict_unprivileged_userns": "1"},
			"kernel.apparmor_restrict_unprivileged_userns=1",
			"sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"user limit", syscall.ENOSPC, false, map[string]string{"user/max_user_namespaces": "0"},
			"user.max_user_namespaces=0", "sysctl -w user.max_user_namespaces=15000"},
		{"net limit", syscall.ENOSPC, true,
			map[string]string{"user/max_user_namespaces": "0", "user/max_net_namespaces": "0"},
			"user.max_net_namespaces=0", "sysctl -w user.max_net_namespaces=15000"},
		{"used up", syscall.ENOSPC, false, map[string]string{"user/max_user_namespaces": "5"},
			"a limit of namespaces is reached", "lsns"},
		{"seccomp", syscall.EPERM, false, map[string]string{"user/max_user_namespaces": "5"},
			"seccomp", "CAP_SYS_ADMIN"},
		{"root in a container", syscall.EPERM, true,
			map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"},
			"seccomp", "CAP_SYS_ADMIN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := diagnose(tt.errno, tt.privileged, func(name string) (string, error) {
				if value, ok := tt.sysctls[name]; ok {
					return value, nil
				}
				return "", os.ErrNotExist
			})
			if !strings.Contains(got.Why, tt.why) || !strings.Contains(got.Remedy, tt.remedy) ||
				got.Err != tt.errno {
				t.Errorf("got %v; want %q and %q", &got, tt.why, tt.remedy)
			}
		})
	}
}

func TestExplainOnlyRefusals(t *testing.T) {
	var refused *RefusedError
	for _, err := range []error{errors.New("other"), syscall.ENOMEM, os.ErrNotExist} {
		if got := explainRefusal(err); got != err {
			t.Errorf("got %v; want %v as it is", got, err)
		}
	}
	if got := explainRefusal(&os.SyscallError{Syscall: "unshare", Err: syscall.EPERM}); !errors.As(got,
		&refused) || !errors.Is(got, syscall.EPERM) {
		t.Errorf("got %v; want a refusal that wraps %v", got, syscall.EPERM)
	}
}

func TestSocketDir(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/"+strings.Repeat("x", 90))
	if dir, err := socketDir(); err == nil || !strings.Contains(err.Error(), "too long for a socket") {
		t.Errorf("got %q, %v; want an error", dir, err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	if dir, err := socketDir(); err != nil || dir != "/run/user/7/ftpgate-lab" {
		t.Errorf("got %q, %v", dir, err)
	}
}

func TestCheckOwner(t *testing.T) {
	open, own := t.TempDir(), t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(own, open+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := checkOwner(own); err != nil {
		t.Errorf("got %v; want none", err)
	}
	for _, dir := range []string{open, open + "/link", open + "/missing"} {
		if err := checkOwner(dir); err == nil {
			t.Errorf("%s: got no error", dir)
		}
	}
}
