// Command bench measures ftpgate beside what else could stand in its place: routing without any
// translation, and the rules for the kernel's helper that are typed by hand. All contestants have
// labs of the same shape, stand at the same time, and take turns.
//
// It never judges by its exit status how fast something is: 1 means that something did not work.
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

	"ftpgate/internal/lab"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(status(play(role, os.Args[1:]), os.Stderr))
	}
	os.Exit(bench(os.Args[1:], os.Stdout, os.Stderr))
}

// play is one of the other processes.
func play(role string, args []string) error {
	switch {
	case role == "origin" && len(args) == 1:
		return serveOrigin(args[0], "", os.Stdin, os.Stdout)
	case role == "origin" && len(args) == 2:
		return serveOrigin(args[0], seal(args[1]), os.Stdin, os.Stdout)
	case role == "load":
		return serveLoad(os.Stdin, os.Stdout)
	}
	return fmt.Errorf("bench: no role %q with arguments %q", role, args)
}

// status is the exit status for err, which it prints.
func status(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, err)
	return 1
}

// bench is the program: first outside, where it builds ftpgate, then inside namespaces of its own.
func bench(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if lab.Inside() {
		return status(inside(ctx, o, stdout, stderr), stderr)
	}
	code, err := outside(ctx, o, args)
	if err != nil {
		return status(err, stderr)
	}
	return code
}

// options are what the command line asks for.
type options struct {
	rounds      int
	duration    time.Duration // of a round
	large       int           // MiB of the large file
	idle        int           // sessions
	clients     int           // that make the load at the same time
	epsv        bool
	contestants []contestant
	measures    []string // of those in measures, and "memory"
	tools       tools    // ftpgate empty: it is built
	out         string   // where results are written
	hold        string   // a contestant to be kept under load instead
	holdLoad    string   // a measure
	holdFor     time.Duration
}

// parse reads the command line; it has told stderr of an error.
func parse(args []string, stderr io.Writer) (options, error) {
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
	set.StringVar(&who, "contestants", "routed,helper,proxy,relay,routed-tls,mod_proxy,terminated,mod_proxy-both,terminated-both",
		"`names` of those that are measured; there is also kernel")
	set.StringVar(&what, "measures", "transfers,sessions,large,latency,tls-transfers,tls-large,memory", "`names` of what is measured")
	set.StringVar(&o.tools.ftpgate, "ftpgate", "", "`path` of the ftpgate that is measured (default: it is built)")
	set.StringVar(&o.tools.peers, "peers", cmp.Or(os.Getenv("FTPGATE_PEERS"), ".peers"), "`directory` in which scripts/test-peers has unpacked proftpd")
	set.StringVar(&o.out, "out", "bench-results", "`directory` for the CSV and the plot")
	set.BoolVar(&quick, "quick", false, "a short run: does everything work?")
	set.StringVar(&o.hold, "hold", "", "measure nothing: keep this `contestant` under load, to be profiled")
	set.StringVar(&o.holdLoad, "hold-load", "transfers", "`measure` whose load that is")
	set.DurationVar(&o.holdFor, "hold-for", 30*time.Second, "for how long")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if quick {
		o.hurry(set)
	}
	o.measures = strings.Split(what, ",")
	var err error
	o.contestants, err = find(strings.Split(who, ","))
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("too many words: %q", set.Args())
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

// hurry makes a run short, but for what the command line sets itself.
func (o *options) hurry(set *flag.FlagSet) {
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

// outside builds ftpgate where that is asked for, and runs this program again inside.
func outside(ctx context.Context, o options, args []string) (code int, err error) {
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

// build builds ftpgate into path, in its own module: what is measured has the versions of its go.mod.
func build(ctx context.Context, path string, env []string, flags ...string) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "ftpgate").Output()
	if err != nil {
		return fmt.Errorf("bench: find the module of ftpgate: %w", err)
	}
	args := slices.Concat([]string{"-C", strings.TrimSpace(string(root)), "build", "-o", path}, flags, []string{"./cmd/ftpgate"})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("bench: build ftpgate: %w: %s", err, out)
	}
	return nil
}

// inside measures, or holds.
func inside(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "ftpgate-bench-seal-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.tools.seal, err = newSeal(dir, gatewayAt.Addr(), originAt.Addr()); err != nil {
		return err
	}
	if o.hold != "" {
		return hold(ctx, o, stdout)
	}
	_, missing := findProftpd(o.tools.peers)
	o.contestants = present(o.contestants, missing, stderr)
	rows, err := run(ctx, o, stderr)
	if err != nil {
		return err
	}
	if err := writeTable(stdout, rows); err != nil {
		return err
	}
	return save(o.out, rows)
}

// present are the contestants whose programs are here; of those that lack proftpd it says why they are
// left out.
func present(asked []contestant, missing error, stderr io.Writer) (there []contestant) {
	for _, c := range asked {
		if c.modProxy && missing != nil {
			fmt.Fprintf(stderr, "%s is left out; scripts/test-peers gets what is missing: %s\n", c.name, strings.ReplaceAll(missing.Error(), "\n", "; "))
			continue
		}
		there = append(there, c)
	}
	return there
}

// save writes the results as files.
func save(dir string, rows []row) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	for name, write := range map[string]func(io.Writer, []row) error{"bench.csv": writeCSV, "bench.svg": writePlot} {
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
