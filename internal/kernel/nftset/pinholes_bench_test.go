package nftset_test

import (
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/kernel/nftwatch"
	"ftpgate/internal/try/lab/labtest"
)

// Adds and removes a pinhole, by one caller, and by sixteen at once, and while no process or this process
// hears the kernel's notifications. cpu-µs/op is the processor time of both, in this process and in the
// kernel.
func BenchmarkPinholes(b *testing.B) {
	for i := range 4 {
		callers, watched := []int{1, 16}[i/2], i%2 == 1
		b.Run(fmt.Sprintf("callers=%d/watched=%t", callers, watched), func(b *testing.B) {
			p := benchPinholes(b, watched)
			before := cpu(b)
			b.ResetTimer()
			var all sync.WaitGroup
			for i := range callers {
				all.Go(func() {
					for j := range b.N / callers {
						pinhole := numbered(i<<12 | j&0xfff)
						if err := p.Add(pinhole); err != nil {
							b.Error(err)
						}
						if err := p.Remove(pinhole); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-µs/op")
		})
	}
}

func benchPinholes(b *testing.B, watched bool) *nftset.PinholeSet {
	h := labtest.Host(b)
	nfttest.Apply(b, nfttest.Open(b, h), pinholeTable())
	if watched {
		var w *nftwatch.Watcher
		if err := h.Do(func() (err error) {
			w, err = nftwatch.Subscribe(
				"ftpgate")
			return err
		}); err != nil {
			b.Fatal(err)
		}
		var running sync.WaitGroup
		running.Go(func() { _ = w.Run(b.Context(), func(c nftwatch.Change) { b.Errorf("got %+v", c) }) })
		b.Cleanup(func() {
			running.Wait()
			w.Close()
		})
	}
	return openPinholes(b, h)
}

// pinholeTable is a table for pinholes only.
func pinholeTable() ruleset.Table {
	return ruleset.Build("ftpgate", []forward.Resolved{
		rulesettest.Forward("main", "192.168.5.2:2121", "203.0.113.21", forward.TrackingProxy)})
}

// numbered returns a different pinhole for each number: no two share a key.
func numbered(i int) pinhole.Pinhole {
	port := uint16(1024 + i%60000)
	from := netip.AddrFrom4([4]byte{10, byte(i / 60000), 0, 1})
	return pinhole.Pinhole{
		From: from, Listen: netip.AddrPortFrom(netip.MustParseAddr("192.168.5.2"), port),
		Target:   netip.AddrPortFrom(netip.MustParseAddr("203.0.113.21"), port),
		SourceIP: netip.MustParseAddr("203.0.113.1"),
	}
}

// cpu returns the processor time of this process in microseconds, in user mode and in the kernel.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return (u.Utime.Nano() + u.Stime.Nano()) / 1000
}
