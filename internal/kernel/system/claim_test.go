package system

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab/labtest"
)

// wantHeldBy checks that every function reports process pid of this user as the holder of name.
func wantHeldBy(t *testing.T, name string, pid int) {
	t.Helper()
	c, err := ClaimName(name)
	held, ok := errors.AsType[*ClaimedError](err)
	if want := (ClaimedError{Name: name, PID: pid, UID: os.Getuid()}); !ok || *held != want {
		t.Errorf("ClaimName(%q) = %v, %v; want %+v", name, c, err, want)
	}
	if held, got, err := Claimed(name); !held || got != pid || err != nil {
		t.Errorf("Claimed(%q) = %v, %d, %v; want true, %d, nil", name, held, got, err, pid)
	}
}

// wantFree checks that name can be claimed, and releases it.
func wantFree(t *testing.T, name string) {
	t.Helper()
	if held, pid, err := Claimed(name); held || pid != 0 || err != nil {
		t.Errorf("Claimed(%q) = %v, %d, %v; want false, 0, nil", name, held, pid, err)
	}
	c, err := ClaimName(name)
	if err != nil {
		t.Errorf("ClaimName(%q) = %v; want nil", name, err)
		return
	}
	if err := c.Release(); err != nil {
		t.Errorf("Release = %v; want nil", err)
	}
}

func TestClaimDiesWithItsProcess(t *testing.T) {
	host, other := labtest.Host(t), labtest.Host(t)
	holder := start(t, "claim table", host.Start)
	if holder.said != "claimed" {
		t.Fatalf("the other process said %q; want claimed", holder.said)
	}
	in(t, host, func() error { wantHeldBy(t, "table", holder.Process.Pid); return nil })
	in(t, host, func() error { wantFree(t, "another"); return nil })
	in(t, other, func() error { wantFree(t, "table"); return nil })
	holder.kill(t)
	in(t, host, func() error { wantFree(t, "table"); return nil })
}

func TestClaimRelease(t *testing.T) {
	in(t, labtest.Host(t), func() error {
		c, err := ClaimName("table")
		if err != nil {
			return err
		}
		wantHeldBy(t, "table", os.Getpid())
		for range 2 {
			if err := c.Release(); err != nil {
				t.Errorf("Release = %v; want nil", err)
			}
			select {
			case <-c.done:
			default:
				t.Error("Release returned before the goroutine that answers")
			}
		}
		wantFree(t, "table")
		return nil
	})
}

func TestClaimAnswersEveryAsker(t *testing.T) {
	host := labtest.Host(t)
	// The queue is short, so that connections that are not accepted would fill it up.
	if err := host.WriteSysctl("net.core.somaxconn", "4"); err != nil {
		t.Fatal(err)
	}
	holder := start(t, "claim table", host.Start)
	in(t, host, func() error {
		unknown := 0
		for range 1000 {
			held, pid, err := Claimed("table")
			if !held || err != nil {
				return fmt.Errorf("Claimed = %v, %d, %v; want true", held, pid, err)
			}
			if pid == 0 {
				unknown++ // the holder has not accepted yet
			}
		}
		if unknown == 1000 {
			t.Error("no process of user 1000 learnt the pid")
		}
		return nil
	})
	// The queue of a stopped holder is soon full, but the claim is still valid.
	if err := holder.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(holder.Process.Pid, &status, unix.WUNTRACED, nil); err != nil ||
		!status.Stopped() {
		t.Fatalf("wait for the stop: %v, %v", status, err)
	}
	begun := time.Now()
	in(t, host, func() error {
		for range 20 {
			held, pid, err := Claimed("table")
			if !held || pid != 0 && pid != holder.Process.Pid || err != nil {
				return fmt.Errorf("holder stopped: Claimed = %v, %d, %v; want true", held, pid, err)
			}
		}
		want := ClaimedError{Name: "table", UID: -1}
		_, err := ClaimName("table")
		if got, ok := errors.AsType[*ClaimedError](err); !ok || *got != want {
			t.Errorf("queue full: ClaimName = %v; want %+v", err, want)
		}
		return nil
	})
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("asking took %v; want no waiting", took)
	}
	if err := holder.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// ClaimName gives up if a process binds the name and never listens.
func TestClaimOfOneWhoDoesNotListen(t *testing.T) {
	in(t, labtest.Host(t), func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@ftpgate/table"}); err != nil {
			return err
		}
		want := ClaimedError{Name: "table", UID: -1}
		_, err = ClaimName("table")
		if got, ok := errors.AsType[*ClaimedError](err); !ok || *got != want {
			t.Errorf("ClaimName = %v; want %+v", err, want)
		}
		return nil
	})
}

func TestClaimNames(t *testing.T) {
	const max = 64
	long := strings.Repeat("a", 300)
	names := []string{"a", "b", "a~b", "ü", long[:max-1], long[:max], long[:max+1], long, long + "b"}
	in(t, labtest.Host(t), func() error {
		for _, name := range names { // all at once: no two names are confused
			c, err := ClaimName(name)
			if err != nil {
				return err
			}
			defer c.Release()
		}
		for _, name := range names {
			wantHeldBy(t, name, os.Getpid())
		}
		for _, name := range names { // a name that was cut is not confused with one that was not
			addr, err := claimAddr(name)
			if err != nil {
				return err
			}
			got, cut := strings.TrimPrefix(addr.Name, "@ftpgate/"), len(name) > max
			if cut && len(got) != max+1 || !cut && got != name {
				t.Errorf("%q is claimed as %q; want it whole, or cut to %d bytes", name, got, max+1)
			}
		}
		for _, bad := range []string{"", "a\x00b"} {
			want := fmt.Sprintf("system: claim %q: a name has at least one byte and no NUL", bad)
			if _, err := ClaimName(bad); err == nil || err.Error() != want {
				t.Errorf("ClaimName(%q) = %v; want %s", bad, err, want)
			}
			if _, _, err := Claimed(bad); err == nil || err.Error() != want {
				t.Errorf("Claimed(%q) = %v; want %s", bad, err, want)
			}
		}
		return nil
	})
}

// Of many claims at the same moment, one succeeds, and none blocks.
func TestClaimRace(t *testing.T) {
	host := labtest.Host(t)
	const rivals = 8
	for range 20 {
		claims := make(chan *Claim, rivals)
		var all sync.WaitGroup
		for range rivals {
			all.Go(func() {
				err := host.Do(func() error {
					c, err := ClaimName("table")
					if err == nil {
						claims <- c
					}
					return err
				})
				if _, ok := errors.AsType[*ClaimedError](err); err != nil && !ok {
					t.Error(err)
				}
			})
		}
		all.Wait()
		close(claims)
		if len(claims) != 1 {
			t.Errorf("%d of %d have the claim; want 1", len(claims), rivals)
		}
		for c := range claims {
			if err := c.Release(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A process without free descriptors cannot accept. Its claim is valid, and it can release it.
func TestClaimWithoutDescriptors(t *testing.T) {
	host := labtest.Host(t)
	holder := start(t, "starve table", host.Start)
	if holder.said != "claimed" {
		t.Fatalf("the other process said %q; want claimed", holder.said)
	}
	in(t, host, func() error {
		for range 3 {
			wantHeldBy(t, "table", holder.Process.Pid)
		}
		return nil
	})
	holder.stdin.Close()
	if err := holder.Wait(); err != nil {
		t.Errorf("Release in the other process: %v", err)
	}
}
