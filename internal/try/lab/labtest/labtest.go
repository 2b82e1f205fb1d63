// Package labtest gives each test a lab of its own, also for an ordinary user. It skips a test only if the
// kernel refuses namespaces or a program is not installed. With CI=true it fails the test instead.
package labtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"ftpgate/internal/try/lab"
)

// Main is the body of TestMain in a package whose tests need a lab. It runs the test binary again through
// lab.Enter, with the same arguments, so that all tests are root in private namespaces, and exits with its
// status. If the kernel refuses the namespaces, the tests run without, and New skips them with the kernel's
// reason. Main does not return.
func Main(m *testing.M) {
	var err error
	if lab.Inside() {
		err = lab.Prepare()
	} else {
		var code int
		if code, err = lab.Enter(os.Args[1:]); err == nil {
			os.Exit(code)
		}
	}
	if refused := (*lab.RefusedError)(nil); errors.As(err, &refused) {
		err = os.Setenv(refusedEnv, refused.Error())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// refusedEnv holds the kernel's refusal from Main until a test calls New or Host.
const refusedEnv = "FTPGATE_LAB_REFUSED"

// New makes a lab that is closed after the test. It skips the test if the kernel refuses the lab.
func New(t testing.TB) *lab.Lab {
	t.Helper()
	entered(t)
	l, err := lab.New()
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() { closeAll(t, l.Close) })
	return l
}

// Host makes a single host with only lo up, which is enough for rules and sysctls. It is closed after the
// test. Host skips the test if the kernel refuses the namespace.
func Host(t testing.TB) *lab.Host {
	t.Helper()
	entered(t)
	h, err := lab.NewHost("host")
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() { closeAll(t, h.Close) })
	return h
}

// entered skips the test if the kernel refused Main. It fails the test if its package does not call Main.
func entered(t testing.TB) {
	t.Helper()
	if reason := os.Getenv(refusedEnv); reason != "" {
		Refused(t, reason)
	}
	if !lab.Inside() {
		t.Fatal("the tests of this package are not in a lab: its TestMain must call labtest.Main")
	}
}

func closeAll(t testing.TB, closer func() error) {
	if err := closer(); err != nil {
		t.Errorf("leave the lab: %v", err)
	}
}

// unavailable skips the test if err is a refusal of the kernel, and fails it otherwise.
func unavailable(t testing.TB, err error) {
	t.Helper()
	var refused *lab.RefusedError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	Refused(t, refused.Error())
}

// Need skips the test if one of the programs is not installed.
func Need(t testing.TB, binaries ...string) {
	t.Helper()
	for _, name := range binaries {
		if _, err := exec.LookPath(name); err != nil {
			Refused(t, fmt.Sprintf("%s is not installed", name))
		}
	}
}

// Refused skips the test because the kernel or the machine refuses what it needs, or fails it with CI=true.
// reason says why.
func Refused(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and with CI=true nothing is skipped", reason)
	}
	t.Skip(reason)
}
