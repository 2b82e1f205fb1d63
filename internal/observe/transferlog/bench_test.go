package transferlog

import (
	"os"
	"path/filepath"
	"testing"

	"ftpgate/internal/observe/sessions"
)

// BenchmarkAdd is what a session pays for a transfer, with a writer that keeps up.
func BenchmarkAdd(b *testing.B) {
	l := mustOpen(b, Settings{Transfers: os.DevNull, Xferlog: os.DevNull})
	x := transfer()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%(maxKeptBatch/2) == 0 {
			b.StopTimer()
			idle(l)
			b.StartTimer()
		}
		l.Add(x)
	}
	b.StopTimer()
	mustClose(b, l)
	if _, lost := l.Counts(); lost > 0 {
		b.Errorf("got %d lost; want none", lost)
	}
}

// BenchmarkWrite is what the writer pays for a transfer in both files.
func BenchmarkWrite(b *testing.B) {
	dir := b.TempDir()
	var outputs []*output
	for name, line := range map[string]func([]byte, *sessions.Transfer) ([]byte, error){"t.json": jsonLine,
		"xferlog": xferlogLine} {
		o := &output{path: filepath.Join(dir, name), line: line}
		f, err := openAppend(o.path)
		if err != nil {
			b.Fatal(err)
		}
		o.attach(f)
		outputs = append(outputs, o)
	}
	x := transfer()
	b.ReportAllocs()
	for b.Loop() {
		for _, o := range outputs {
			if r := o.write(&x); !r.complete {
				b.Fatal(r.err)
			}
		}
	}
	for _, o := range outputs {
		o.close()
	}
}
