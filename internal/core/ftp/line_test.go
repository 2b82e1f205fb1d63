package ftp

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// event is the result of one call of ReadLine.
type event struct {
	text string
	end  Ending
	err  string
}

// readAll calls ReadLine until the stream has ended.
func readAll(t *testing.T, src io.Reader, limit int) []event {
	t.Helper()
	r := NewLineReader(src, limit)
	var events []event
	for {
		text, end, err := r.ReadLine()
		e := event{text: string(text), end: end}
		if err != nil {
			e.err = err.Error()
		}
		events = append(events, e)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return events
		}
		if len(events) > 1<<16 {
			t.Fatalf("the reader never ends")
		}
	}
}

func equalEvents(a, b []event) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

const (
	eof     = "EOF"
	partial = "unexpected EOF"
	tooLong = "line is longer than 8 bytes"
)

var lineTests = []struct {
	why, stream string
	want        []event // with a limit of 8 bytes
}{
	{"nothing", "", []event{{"", EndNone, eof}}},
	{"both endings", "a\r\nb\n", []event{{"a", EndCRLF, ""}, {"b", EndLF, ""}, {"", EndNone, eof}}},
	{"empty lines", "\r\n\n", []event{{"", EndCRLF, ""}, {"", EndLF, ""}, {"", EndNone, eof}}},
	{"only the last CR belongs to the ending", "a\r\r\n", []event{{"a\r", EndCRLF, ""}, {"", EndNone, eof}}},
	{"a CR within", "a\rb\r\n", []event{{"a\rb", EndCRLF, ""}, {"", EndNone, eof}}},
	{"a partial line gives its bytes", "a\r\nbc\r", []event{{"a", EndCRLF, ""}, {"bc\r", EndNone, partial}}},
	{"eight bits", "\xff\xf4\xfe\r\n", []event{{"\xff\xf4\xfe", EndCRLF, ""}, {"", EndNone, eof}}},
	{"exactly the limit", "123456\r\n", []event{{"123456", EndCRLF, ""}, {"", EndNone, eof}}},
	{"exactly the limit, bare", "1234567\n", []event{{"1234567", EndLF, ""}, {"", EndNone, eof}}},
	{"one beyond the limit", "1234567\r\nb\n",
		[]event{{"", EndNone, tooLong}, {"b", EndLF, ""}, {"", EndNone, eof}}},
	{"far beyond", strings.Repeat("x", 99) + "\r\nb\n",
		[]event{{"", EndNone, tooLong}, {"b", EndLF, ""}, {"", EndNone, eof}}},
	{"beyond and never an end", "123456789", []event{{"", EndNone, tooLong}, {"", EndNone, eof}}},
	{"NUL", "a\x00b\nc\n",
		[]event{{"", EndNone, "line has a NUL byte at offset 1"}, {"c", EndLF, ""}, {"", EndNone, eof}}},
	{"two NULs are one error", "\x00\x00\nc\n",
		[]event{{"", EndNone, "line has a NUL byte at offset 0"}, {"c", EndLF, ""}, {"", EndNone, eof}}},
	{"CR NUL", "CWD\r\x00\r\n",
		[]event{{"", EndNone, "line has a NUL byte at offset 4"}, {"", EndNone, eof}}},
	{"NUL beyond the limit", "12345678\x00\n", []event{{"", EndNone, tooLong}, {"", EndNone, eof}}},
	{"NUL without an end", "a\x00",
		[]event{{"", EndNone, "line has a NUL byte at offset 1"}, {"", EndNone, eof}}},
}

// ReadLine gets each stream in one piece, byte by byte, in halves, and with its last bytes and its end in one
// read.
func TestReadLine(t *testing.T) {
	splits := map[string]func(io.Reader) io.Reader{
		"whole":    func(r io.Reader) io.Reader { return r },
		"bytes":    iotest.OneByteReader,
		"halves":   iotest.HalfReader,
		"data+EOF": iotest.DataErrReader,
	}
	for _, tt := range lineTests {
		for how, split := range splits {
			got := readAll(t, split(strings.NewReader(tt.stream)), 8)
			if !equalEvents(got, tt.want) {
				t.Errorf("%s (%s): %q: got %+v; want %+v", tt.why, how, tt.stream, got, tt.want)
			}
		}
	}
}

func TestReadLineTypes(t *testing.T) {
	_, _, err := NewLineReader(strings.NewReader("abcdef"), 5).ReadLine()
	if long, ok := errors.AsType[*TooLongError](err); !ok || long.Limit != 5 {
		t.Errorf("got %#v; want *TooLongError with limit 5", err)
	}
	_, _, err = NewLineReader(strings.NewReader("ab\x00"), 0).ReadLine()
	if nul, ok := errors.AsType[*NULError](err); !ok || nul.Offset != 2 {
		t.Errorf("got %#v; want *NULError at 2", err)
	}
}

// The longest line is accepted; one byte more is not.
func TestDefaultLimit(t *testing.T) {
	text := strings.Repeat("x", DefaultLineLimit-2)
	if got, _, err := NewLineReader(strings.NewReader(text+"\r\n"), 0).ReadLine(); err != nil ||
		string(got) != text {
		t.Errorf("a line of the limit: got %d bytes, %v; want %d", len(got), err, len(text))
	}
	if _, _, err := NewLineReader(strings.NewReader("x"+text+"\r\n"), 0).ReadLine(); err == nil {
		t.Errorf("a line beyond the limit: got no error")
	}
}

// No byte is lost after a temporary error of the stream.
func TestReadLineAfterDeadline(t *testing.T) {
	src := io.MultiReader(strings.NewReader("NO"), &once{err: os.ErrDeadlineExceeded},
		strings.NewReader("OP\r\n"))
	r := NewLineReader(src, 0)
	if _, _, err := r.ReadLine(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("first call: got %v; want %v", err, os.ErrDeadlineExceeded)
	}
	if text, _, err := r.ReadLine(); err != nil || string(text) != "NOOP" {
		t.Errorf("second call: got %q, %v; want NOOP", text, err)
	}
}

// once is a stream that fails once and then ends.
type once struct{ err error }

func (o *once) Read([]byte) (int, error) {
	err := o.err
	o.err = io.EOF
	return 0, err
}

func TestReadLineNoProgress(t *testing.T) {
	if _, _, err := NewLineReader(emptyReader{}, 0).ReadLine(); err != io.ErrNoProgress {
		t.Errorf("got %v; want %v", err, io.ErrNoProgress)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

// Plain text after AUTH is counted and discarded, even a refused line.
func TestReset(t *testing.T) {
	r := NewLineReader(strings.NewReader("AUTH TLS\r\nUSER evil\r\n"), 0)
	if text, _, err := r.ReadLine(); err != nil || string(text) != "AUTH TLS" {
		t.Fatalf("got %q, %v; want AUTH TLS", text, err)
	}
	if got, want := r.Buffered(), len("USER evil\r\n"); got != want {
		t.Errorf("Buffered: got %d; want %d", got, want)
	}
	r.Reset(strings.NewReader("b\x00"))
	if text, _, err := r.ReadLine(); err == nil {
		t.Fatalf("got %q; want an error", text)
	}
	r.Reset(strings.NewReader("USER good\r\n"))
	if text, _, err := r.ReadLine(); err != nil || string(text) != "USER good" {
		t.Errorf("after Reset: got %q, %v; want USER good", text, err)
	}
}

// A line that is too long continues under a higher limit, and its memory is given back under a lower one,
// also where the beginning of the next line came with it.
func TestSetLimitWithinLine(t *testing.T) {
	text := strings.Repeat("x", 100_000)
	r := NewLineReader(strings.NewReader(text+"\nnext\nhalf"), 0)
	if _, _, err := r.ReadLine(); !errors.As(err, new(*TooLongError)) || r.Ready() {
		t.Fatalf("got %v, ready %t; want *TooLongError", err, r.Ready())
	}
	r.SetLimit(200_000)
	if got, _, err := r.ReadLine(); string(got) != text || err != nil {
		t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(text))
	}
	r.SetLimit(0)
	if got, _, err := r.ReadLine(); string(got) != "next" || err != nil {
		t.Fatalf("got %q, %v; want the next line", got, err)
	}
	if got, _, err := r.ReadLine(); string(got) != "half" || err != io.ErrUnexpectedEOF {
		t.Fatalf("got %q, %v; want the rest", got, err)
	}
	if got := len(r.buf); got > DefaultLineLimit {
		t.Errorf("got %d bytes of memory; want %d at most", got, DefaultLineLimit)
	}
}

// The limit changes between lines that are already buffered.
func TestSetLimit(t *testing.T) {
	r := NewLineReader(strings.NewReader("123456\n123456789\n123456\n"), 20)
	for _, tt := range []struct {
		limit int
		want  string
	}{{20, "123456"}, {10, "123456789"}, {5, ""}} {
		r.SetLimit(tt.limit)
		text, _, err := r.ReadLine()
		if string(text) != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("limit %d: got %q, %v; want %q", tt.limit, text, err, tt.want)
		}
	}
}

// referenceLines is ReadLine without buffers: slow, but simple.
func referenceLines(stream []byte, limit int) []event {
	var events []event
	for len(stream) > 0 {
		line, rest, found := bytes.Cut(stream, []byte("\n"))
		size := len(line)
		if found {
			size++
		}
		stream = rest
		nul := bytes.IndexByte(line, 0)
		switch {
		case nul >= 0 && nul < limit:
			events = append(events, event{err: (&NULError{nul}).Error()})
		case size > limit || size == limit && !found:
			events = append(events, event{err: (&TooLongError{limit}).Error()})
		case !found:
			return append(events, event{string(line), EndNone, partial})
		case bytes.HasSuffix(line, []byte("\r")):
			events = append(events, event{string(line[:len(line)-1]), EndCRLF, ""})
		default:
			events = append(events, event{string(line), EndLF, ""})
		}
	}
	return append(events, event{err: eof})
}

// chunkReader returns a stream in pieces, whose sizes the fuzzer chooses.
type chunkReader struct {
	stream, sizes []byte
	turn          int
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.stream) == 0 {
		return 0, io.EOF
	}
	n := len(p)
	if len(r.sizes) > 0 {
		n = min(n, 1+int(r.sizes[r.turn%len(r.sizes)]))
		r.turn++
	}
	n = copy(p[:n], r.stream)
	r.stream = r.stream[n:]
	return n, nil
}

// However a stream is split, ReadLine returns the lines of the reference.
func FuzzReadLine(f *testing.F) {
	f.Add([]byte("USER a\r\nPASS b\nQUIT\r\n"), []byte{0, 3}, uint16(64))
	f.Fuzz(func(t *testing.T, stream, sizes []byte, limit uint16) {
		bytesMax := 1 + int(limit)%2048
		got := readAll(t, &chunkReader{stream: stream, sizes: sizes}, bytesMax)
		if want := referenceLines(stream, bytesMax); !equalEvents(got, want) {
			t.Errorf("%q in pieces of %v, limit %d: got %+v; want %+v", stream, sizes, bytesMax, got, want)
		}
	})
}

// The steady state of a connection: 0 allocs/op.
func BenchmarkReadLine(b *testing.B) {
	src := &repeat{line: []byte("227 Entering Passive Mode (192,168,5,2,195,80)\r\n")}
	r := NewLineReader(src, 0)
	b.SetBytes(int64(len(src.line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.ReadLine(); err != nil {
			b.Fatal(err)
		}
	}
}

// repeat is an endless stream.
type repeat struct {
	line []byte
	at   int
}

func (r *repeat) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c := copy(p[n:], r.line[r.at:])
		n, r.at = n+c, (r.at+c)%len(r.line)
	}
	return n, nil
}

// ReadLine does not allocate.
func TestReadLineAllocs(t *testing.T) {
	r := NewLineReader(&repeat{line: []byte("150 " + strings.Repeat("x", 700) + "\r\n")}, 0)
	for range 8 { // until the buffer is as long as the line
		if _, _, err := r.ReadLine(); err != nil {
			t.Fatal(err)
		}
	}
	if got := testing.AllocsPerRun(100, func() { _, _, _ = r.ReadLine() }); got != 0 {
		t.Errorf("got %v allocations a line; want 0", got)
	}
}

// A socket reports its reset once. ReadLine returns it after Peek, and not the end that the socket reports
// then.
func TestPeekKeepsError(t *testing.T) {
	reset := errors.New("connection reset by peer")
	errs := []error{reset, io.EOF}
	r := NewLineReader(readFunc(func([]byte) (int, error) {
		err := errs[0]
		errs = errs[1:]
		return 0, err
	}), 0)
	if _, err := r.Peek(); err != reset {
		t.Errorf("Peek: got %v; want %v", err, reset)
	}
	if _, _, err := r.ReadLine(); err != reset {
		t.Errorf("ReadLine after Peek: got %v; want %v", err, reset)
	}
	if _, _, err := r.ReadLine(); err != io.EOF {
		t.Errorf("ReadLine: got %v; want %v", err, io.EOF)
	}
}

// readFunc is an io.Reader.
type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A caller stops reading lines: TLS follows, from the first byte on or after an answer.
func TestPeekAndRest(t *testing.T) {
	r := NewLineReader(io.MultiReader(strings.NewReader("AU"),
		strings.NewReader("TH TLS\r\n\x16\x03\x01\n\x00")), 0)
	for range 2 {
		if b, err := r.Peek(); b != 'A' || err != nil {
			t.Fatalf("Peek: got %q, %v; want 'A'", b, err)
		}
	}
	if line, _, err := r.ReadLine(); string(line) != "AUTH TLS" || err != nil {
		t.Fatalf("got %q, %v; want the line", line, err)
	}
	if b, err := r.Peek(); b != 0x16 || err != nil {
		t.Errorf("Peek: got %q, %v; want the record's first byte", b, err)
	}
	if got := string(r.Rest()); got != "\x16\x03\x01\n\x00" {
		t.Errorf("Rest: got %q; want the bytes after the line", got)
	}
	if n := r.Buffered(); n != 0 {
		t.Errorf("got %d bytes left; want none", n)
	}
	if _, err := r.Peek(); err != io.EOF {
		t.Errorf("Peek at the end: got %v; want %v", err, io.EOF)
	}
}
