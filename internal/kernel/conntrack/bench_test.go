package conntrack_test

import (
	"context"
	"testing"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/conntrack"
)

// The cost of one flow when a busy gateway looks up all its flows, as it does every second.
func BenchmarkGet(b *testing.B) {
	const flows = 4096
	c := open(b, accounting(b))
	tuples := fill(b, c, flows)
	var found []netflow.Flow
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		var err error
		if found, err = c.Get(found[:0], tuples); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/flows, "ns/flow")
}

// A dump of two flows.
func BenchmarkDump(b *testing.B) {
	c := open(b, accounting(b))
	fill(b, c, 2)
	for b.Loop() {
		for _, err := range c.Dump(nil) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// The cost of a wanted and of an unwanted event, with the system calls.
func BenchmarkEvent(b *testing.B) {
	for name, want := range map[string]netflow.Want{
		"wanted":   nil,
		"unwanted": func(netflow.Tuple, netflow.Tuple) bool { return false },
	} {
		b.Run(name, func(b *testing.B) {
			h := accounting(b)
			c := open(b, h)
			const flows = 4096
			b.ReportAllocs()
			for range b.N {
				b.StopTimer()
				w := opened(b, h, func() (*conntrack.Watcher, error) {
					return conntrack.Subscribe(netflow.FlowNew, netflow.FlowGone)
				})
				for i := range flows {
					if err := c.Create(numbered(i)); err != nil {
						b.Fatal(err)
					}
				}
				for f := range c.Dump(nil) {
					if err := c.Delete(f.Original, f.ID); err != nil {
						b.Fatal(err)
					}
				}
				last := numbered(0)
				if err := c.Create(last); err != nil { // ends the run
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(b.Context())
				seen := 0
				filter := func(original, master netflow.Tuple) bool {
					if seen++; seen == 2*flows+1 {
						cancel()
					}
					return want == nil || want(original, master)
				}
				b.StartTimer()
				if err := w.Run(ctx, filter, func(netflow.FlowEvent) {}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				w.Close()
				if err := c.Delete(last, one(b, c, last).ID); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(2*flows+1), "ns/event")
		})
	}
}
