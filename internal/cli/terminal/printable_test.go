package terminal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 9_940: "9.9 kB", 9_960: "10 kB", 999_499: "999 kB",
		999_500: "1.0 MB",
		20_480:  "20 kB", 10_485_760: "10 MB", 1 << 62: "4.6 EB", -5: "-5 B",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %q; want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59*time.Second + 999*time.Millisecond: "59s", time.Minute: "1m",
		59 * time.Minute: "59m",
		47 * time.Hour:   "47h", 48 * time.Hour: "2d", 1000 * time.Hour: "41d",
	} {
		if got := Age(d); got != want {
			t.Errorf("%s: got %q; want %q", d, got, want)
		}
	}
}

// FuzzPrintable: whatever a peer sends, it does not control a terminal.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[2J", "\u009b1A", "a\u202eb", "\xff\xc3", "e\u0301",
		"中\u200b", "\x7f\r\n\t", "\U000e0041"} {
		f.Add([]byte(s), 2)
	}
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		for _, got := range []string{Printable(string(text)), printableCells(string(text))} {
			for _, r := range got {
				if !unicode.IsPrint(r) {
					t.Errorf("%q: got %q", text, got)
				}
			}
		}
		for _, r := range printableCells(string(text)) {
			if r >= beyondNarrow || unicode.Is(unicode.M, r) {
				t.Errorf("%q: got %q, which is not as wide as long", text, printableCells(string(text)))
			}
		}
		encoded, err := json.Marshal(string(text))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		e := &jsonPrinter{w: bufio.NewWriter(&out)}
		half := max(0, min(at, len(encoded)))
		e.Write(encoded[:half])
		e.Write(encoded[half:])
		e.w.Flush()
		var before, after string
		if json.Unmarshal(encoded, &before) != nil || json.Unmarshal(out.Bytes(), &after) != nil ||
			before != after {
			t.Errorf("%q: got %q, which is %q", encoded, &out, after)
		}
		for b := out.Bytes(); len(b) > 0; {
			r, size := utf8.DecodeRune(b)
			if !unicode.IsPrint(r) {
				t.Errorf("%q: got %q", encoded, &out)
			}
			b = b[size:]
		}
	})
}
