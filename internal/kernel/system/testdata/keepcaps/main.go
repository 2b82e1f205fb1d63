// Command keepcaps drops what its arguments do not name (net_admin, net_bind_service), and prints what is left: the
// sets of each of its threads, of a thread that starts afterwards, and of a program that it starts.
// Then it tries what a daemon does later on. It is built without cgo.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"ftpgate/internal/system"
)

// threads is how many there are at least when capabilities are dropped.
const threads = 8

func main() {
	if os.Args[1] == "show" {
		show("program", "/proc/self/status")
		return
	}
	release := onThreads()
	if err := system.KeepCapabilities(12, 10); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	showThreads("thread")
	release()
	release = onThreads()
	showThreads("later")
	release()
	child := exec.Command("/proc/self/exe", "show")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Run(); err != nil {
		fmt.Println("error", err)
	}
	try(os.Args[1])
}

// onThreads starts threads, and returns what ends them.
func onThreads() func() {
	var started, ended sync.WaitGroup
	over := make(chan struct{})
	for range threads {
		started.Add(1)
		ended.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends
			started.Done()
			<-over
		})
	}
	started.Wait()
	return func() { close(over); ended.Wait() }
}

func showThreads(what string) {
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) < threads {
		fmt.Println("error", len(tasks), "threads", err)
	}
	for _, task := range tasks {
		show(what, task)
	}
}

// show prints the sets of a status file as "WHAT Inh Prm Eff Bnd Amb NoNewPrivs".
func show(what, file string) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return // the thread has ended
	}
	if err != nil {
		fmt.Println("error", err)
	}
	fields := []string{what}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") {
			fields = append(fields, strings.Fields(line)[1])
		}
	}
	fmt.Println(strings.Join(fields, " "))
}

// try does what a daemon does while it runs; dir has files of another user, and of this one.
func try(dir string) {
	l, err := system.ListenTCP(context.Background(), netip.MustParseAddr("127.0.0.1"), 21, "")
	if err == nil {
		l.Close()
	}
	fmt.Println("try listen", err == nil)
	changed, err := system.EnableForwarding(false)
	fmt.Println("try forwarding", err == nil && len(changed) == 1)
	_, err = os.ReadFile(filepath.Join(dir, "theirs"))
	fmt.Println("try theirs", err == nil)
	_, err = os.ReadFile(filepath.Join(dir, "own"))
	fmt.Println("try own", err == nil)
}
