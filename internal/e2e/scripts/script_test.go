// Package scripts runs commands of ftpgate as an administrator types them, one after the other, and checks
// their output and exit statuses.
package scripts

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ftpgate/internal/cli"
)

// TestMain makes the test binary also ftpgate: scripts find it in their PATH.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ftpgate":      func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"unprivileged": func() { os.Exit(unprivileged()) },
	})
}

// unprivileged is ftpgate without root's privileges. They come back before the process ends, so
// that it can still write the counts of "go test -cover".
func unprivileged() int {
	become := func(uid int) {
		if err := syscall.Setresuid(-1, uid, -1); err != nil {
			fmt.Fprintf(os.Stderr, "become user %d: %v\n", uid, err)
			os.Exit(125)
		}
	}
	if os.Geteuid() == 0 {
		const nobody = 65534
		become(nobody) // and the kernel clears the effective capabilities: capabilities(7)
		defer become(0)
	}
	return cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// TestScripts runs the scripts of testdata: commands, their output and exit statuses.
// With "status N" a script asserts the exit status of the command behind it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status,
		},
	})
}

// status runs a command and asserts its exit status: status 2 ftpgate check -c file.toml
// Afterwards stdout, stderr and cmp can check its output.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N CMD...")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		// os/exec says "exit status 2", or what kept the command from running.
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("got exit status %s; want %s", got, args[0])
	}
}
