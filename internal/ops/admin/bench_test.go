package admin

import (
	"io"
	"slices"
	"testing"
)

// BenchmarkSessions requests 10,000 sessions over the socket; it counts the allocations of server and client
// together.
func BenchmarkSessions(b *testing.B) {
	source := manySessions(10_000)
	s, err := Listen(Options{Socket: b.TempDir() + "/s"})
	if err != nil {
		b.Fatal(err)
	}
	defer serveBench(b, s, source)()
	c := NewClient(s.endpoints[0].Addr().String(), "")
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		var n counter
		if err := c.SessionsJSON(b.Context(), Filter{}, &n); err != nil || n < 1<<20 {
			b.Fatalf("got %d bytes, %v; want the list", n, err)
		}
		b.SetBytes(int64(n))
	}
}

// BenchmarkWriteSessions is the server's part of it.
func BenchmarkWriteSessions(b *testing.B) {
	source := manySessions(10_000)
	b.ReportAllocs()
	for b.Loop() {
		if err := writeSessions(io.Discard, slices.Values(source.running)); err != nil {
			b.Fatal(err)
		}
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
