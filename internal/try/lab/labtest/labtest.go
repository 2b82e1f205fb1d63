// Package labtest gives tests a lab of their own, for an ordinary user too, and holds them to
// one rule: a test may be skipped only where the kernel refuses namespaces or a program is not
// installed, and with CI=true not even there.
//
// It never weakens a test to make it pass.
package labtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"ftpgate/internal/try/lab"
)

// Main is the body of TestMain in a package whose tests need a lab. It runs the test binary again
// through lab.Enter, with the same arguments, so that all of its tests are root in private
// namespaces, and exits with its status. Where the kernel refuses that, the tests run as they
// are, and New skips with the kernel's reason. It does not return.
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

// refusedEnv holds the kernel's refusal of what Main asked for, until a test wants a lab.
const refusedEnv = "FTPGATE_LAB_REFUSED"

// New makes a lab that lives as long as the test. Where the kernel refuses, it skips the test.
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

// Host makes a single host with lo up and nothing else, that lives as long as the test: enough
// for rules and sysctls. Where the kernel refuses, it skips the test.
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

// entered skips the test where Main was refused. A package that forgets Main has no excuse.
func entered(t testing.TB) {
	t.Helper()
	if reason := os.Getenv(refusedEnv); reason != "" {
		skip(t, reason)
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

// unavailable ends the test: as skipped only where the kernel refuses.
func unavailable(t testing.TB, err error) {
	t.Helper()
	var refused *lab.RefusedError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	skip(t, refused.Error())
}

// Need skips the test where one of the programs is not installed.
func Need(t testing.TB, binaries ...string) {
	t.Helper()
	for _, name := range binaries {
		if _, err := exec.LookPath(name); err != nil {
			skip(t, fmt.Sprintf("%s is not installed", name))
		}
	}
}

// Refused skips the test because the kernel refuses what it needs, for the reason given.
func Refused(t testing.TB, reason string) {
	t.Helper()
	skip(t, reason)
}

// skip is t.Skip, but with CI=true, where nothing may be skipped, t.Fatal.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and with CI=true nothing is skipped", reason)
	}
	t.Skip(reason)
}
