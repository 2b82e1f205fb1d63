// Command bench measures ftpgate and its alternatives: routing without translation, hand-typed rules for
// the kernel's helper, and proftpd's mod_proxy. Each contestant has a lab of the same shape; all are up at
// the same time and take turns.
//
// The exit status never depends on how fast something is: 1 means that something did not work.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ftpgate/internal/try/lab"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(exitStatus(runRole(role, os.Args[1:]), os.Stderr))
	}
	os.Exit(bench(os.Args[1:], os.Stdout, os.Stderr))
}

// runRole runs the origin or the load.
func runRole(role string, args []string) error {
	switch {
	case role == "origin" && len(args) == 1:
		return serveOrigin(args[0], "", os.Stdin, os.Stdout)
	case role == "origin" && len(args) == 2:
		return serveOrigin(args[0], certDir(args[1]), os.Stdin, os.Stdout)
	case role == "load":
		return serveLoad(os.Stdin, os.Stdout)
	}
	return fmt.Errorf("bench: no role %q with arguments %q", role, args)
}

// exitStatus prints err and returns the exit status for it.
func exitStatus(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, err)
	return 1
}

// bench is the program. It builds ftpgate, and runs itself again in namespaces of its own to measure it.
func bench(args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if lab.Inside() {
		return exitStatus(runInside(ctx, o, stdout, stderr), stderr)
	}
	code, err := runOutside(ctx, o, args)
	if err != nil {
		return exitStatus(err, stderr)
	}
	return code
}

// options are the flags.
type options struct {
	rounds      int
	duration    time.Duration // of a round
	large       int           // MiB of the large file
	idle        int           // sessions
	clients     int           // at the same time
	epsv        bool
	contestants []contestant
	measures    []string // of those in measures, and "memory"
	tools       tools    // an empty ftpgate means: build it
	out         string   // directory for the results
	hold        string   // a contestant to keep under load instead
	holdLoad    string   // a measure
	holdFor     time.Duration
}

// parseFlags reads the command line. It prints errors itself.
func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var quick bool
	var who, what string
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.IntVar(&o.rounds, "rounds", 7, "`number` of rounds that count")
	set.DurationVar(&o.duration, "duration", 2*time.Second, "how long a round lasts for each contestant")
	set.IntVar(&o.large, "large", 2048, "`MiB` of the large file")
	set.IntVar(&o.idle, "idle", 10_000, "`number` of idle sessions")
	set.IntVar(&o.clients, "clients", 16, "`number` of clients at the same time, where the load has several")
	set.BoolVar(&o.epsv, "epsv", false, "ask for passive connections with EPSV instead of PASV")
	set.StringVar(&who, "contestants", "routed,helper,proxy,relay,"+
		"routed-tls,mod_proxy,terminated,mod_proxy-both,terminated-both",
		"`names` of those to measure; there is also kernel")
	set.StringVar(&what, "measures", "transfers,sessions,large,latency,tls-transfers,tls-large,memory",
		"`names` of what to measure")
	set.StringVar(&o.tools.ftpgate, "ftpgate", "", "`path` of the ftpgate to measure (default: build it)")
	set.StringVar(&o.tools.peers, "peers", cmp.Or(os.Getenv("FTPGATE_PEERS"), ".peers"),
		"`directory` in which scripts/test-peers has unpacked proftpd")
	set.StringVar(&o.out, "out", "bench-results", "`directory` for the CSV and the plot")
	set.BoolVar(&quick, "quick", false, "a short run: does everything work?")
	set.StringVar(&o.hold, "hold", "",
		"measure nothing: keep this `contestant` under load, so that you can profile it")
	set.StringVar(&o.holdLoad, "hold-load", "transfers", "`measure` whose load to use")
	set.DurationVar(&o.holdFor, "hold-for", 30*time.Second, "for how long")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if quick {
		o.shorten(set)
	}
	o.measures = strings.Split(what, ",")
	var err error
	o.contestants, err = findContestants(strings.Split(who, ","))
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("unexpected arguments: %q", set.Args())
	}
	if err == nil {
		err = checkMeasures(o.measures)
	}
	if err == nil && (o.rounds < 1 || o.duration <= 0 || o.large < 1 || o.idle < 2 || o.clients < 1) {
		err = errors.New("rounds, duration, large, idle and clients must be positive")
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
	}
	return o, err
}

// shorten makes a run short, except for the flags that the command line sets.
func (o *options) shorten(set *flag.FlagSet) {
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["rounds"] {
		o.rounds = 2
	}
	if !given["duration"] {
		o.duration = 200 * time.Millisecond
	}
	if !given["large"] {
		o.large = 128
	}
	if !given["idle"] {
		o.idle = 400
	}
}

// runOutside builds ftpgate unless a flag names one, and runs this program again in the namespaces.
func runOutside(ctx context.Context, o options, args []string) (code int, err error) {
	if err := raiseDescriptors(o.idle); err != nil {
		return 0, err
	}
	if o.tools.ftpgate == "" {
		dir, err := os.MkdirTemp("", "ftpgate-bench-")
		if err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "ftpgate")
		if err := build(ctx, path, []string{"CGO_ENABLED=0"}, "-trimpath"); err != nil {
			return 0, err
		}
		args = append([]string{"-ftpgate=" + path}, args...)
	}
	return lab.Enter(args)
}

// build builds ftpgate into path, in the product's module, so that it has the dependencies of that go.mod.
func build(ctx context.Context, path string, env []string, flags ...string) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "ftpgate").Output()
	if err != nil {
		return fmt.Errorf("bench: find the module of ftpgate: %w", err)
	}
	args := slices.Concat([]string{"-C", strings.TrimSpace(string(root)), "build", "-o", path}, flags,
		[]string{"./cmd/ftpgate"})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("bench: build ftpgate: %w: %s", err, out)
	}
	return nil
}

// runInside measures, or keeps one contestant under load.
func runInside(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "ftpgate-bench-certs-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.tools.certs, err = makeCerts(dir, gatewayAddr.Addr(), originAddr.Addr()); err != nil {
		return err
	}
	if o.hold != "" {
		return keepLoaded(ctx, o, stdout)
	}
	_, missing := findProftpd(o.tools.peers)
	o.contestants = available(o.contestants, missing, stderr)
	rows, err := measureAll(ctx, o, stderr)
	if err != nil {
		return err
	}
	if err := writeTable(stdout, rows); err != nil {
		return err
	}
	return writeResults(o.out, rows)
}

// available returns the contestants that can run here. If proftpd is missing, it prints why its contestants
// are left out.
func available(chosen []contestant, missing error, stderr io.Writer) (there []contestant) {
	for _, c := range chosen {
		if c.modProxy && missing != nil {
			fmt.Fprintf(stderr, "%s is left out; scripts/test-peers installs what is missing: %s\n", c.name,
				strings.ReplaceAll(missing.Error(), "\n", "; "))
			continue
		}
		there = append(there, c)
	}
	return there
}

// writeResults writes the files of results.
func writeResults(dir string, rows []row) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	files := map[string]func(io.Writer, []row) error{"bench.csv": writeCSV, "bench.svg": writePlot}
	for name, write := range files {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		if err := errors.Join(write(f, rows), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
