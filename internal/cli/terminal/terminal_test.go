package terminal

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTable: a terminal leaves out columns by their rank, and cuts the last one; a pipe gets everything.
func TestTable(t *testing.T) {
	columns := []Column{{Head: "NAME"}, {Head: "SIZE", Right: true, Rank: 1}, {Head: "WHO", Rank: 2, Most: 4},
		{Head: "DOING"}}
	rows := [][]string{{"a", "12", "johanna", strings.Repeat("x", 30)}, {"long", "", "jo", "idle"}}
	for _, tt := range []struct {
		width int
		want  []string
	}{
		{0, []string{
			"NAME  SIZE  WHO      DOING",
			"a       12  johanna  xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
			"long     -  jo       idle",
		}},
		{40, []string{
			"NAME  SIZE  WHO   DOING",
			"a       12  jo..  xxxxxxxxxxxxxxxxxxxx..",
			"long     -  jo    idle",
		}},
		{34, []string{
			"NAME  SIZE  DOING",
			"a       12  xxxxxxxxxxxxxxxxxxxx..",
			"long     -  idle",
		}},
		{28, []string{
			"NAME  DOING",
			"a     xxxxxxxxxxxxxxxxxxxx..",
			"long  idle",
		}},
		{8, []string{
			"NAME  ..",
			"a     ..",
			"long  ..",
		}},
	} {
		s := Terminal{Width: tt.width}
		if got := s.Table(columns, rows); !slices.Equal(got, tt.want) {
			t.Errorf("width %d: got\n%s\nwant\n%s", tt.width, strings.Join(got, "\n"),
				strings.Join(tt.want, "\n"))
		}
	}
}

// TestWrap: a terminal gets lines of its width, indented as the first; a pipe gets one line.
func TestWrap(t *testing.T) {
	const text = "one two three four five six seven"
	for _, tt := range []struct {
		width int
		text  string
		want  []string
	}{
		{0, text, []string{"> " + text}},
		{26, text, []string{"> one two three four five", "  six seven"}},
		{25, text, []string{"> one two three four five", "  six seven"}},
		{24, text, []string{"> one two three four", "  five six seven"}},
		{23, text, []string{"> " + text}}, // too narrow to be worth it
		{26, strings.Repeat("x", 30), []string{"> " + strings.Repeat("x", 24), "  xxxxxx"}},
		{26, "a\x1b[2J\u202eb", []string{`> a\x1b[2J\u202eb`}},
		{26, "", []string{">"}},
	} {
		s := Terminal{Width: tt.width}
		if got := s.Wrap("> ", tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("width %d, %q: got %q; want %q", tt.width, tt.text, got, tt.want)
		}
	}
	if got, want := (Terminal{}).Labelled("user", 9, "anna"),
		[]string{"user       anna"}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

// TestOf: what is no terminal has no size.
func TestOf(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, w := range []io.Writer{io.Discard, null} {
		if got := Of(w); got != (Terminal{}) || got.IsTerminal() {
			t.Errorf("%T: got %+v; want no terminal", w, got)
		}
	}
}

// TestFirstColumn: the first column can be left out, too, and the last one says how little is enough for it.
func TestFirstColumn(t *testing.T) {
	columns := []Column{{Head: "PROCESS", Rank: 2}, {Head: "NAME"}, {Head: "SIZE", Rank: 1}, {Head: "DOING",
		Least: 4}}
	rows := [][]string{{"12", "anna", "10", "retrieving"}}
	for width, want := range map[int]string{
		26: "PROCESS  NAME  SIZE  DOING", 18: "NAME  SIZE  DOING", 12: "NAME  DOING", 3: "N..",
	} {
		if got := (Terminal{Width: width}).Table(columns, rows)[0]; got != want {
			t.Errorf("in %d cells: got %q; want %q", width, got, want)
		}
	}
}

// TestASCII: a terminal that shows nothing else gets nothing else.
func TestASCII(t *testing.T) {
	if got, want := (Terminal{Width: 80, ASCII: true}).Text("~ é\x1b"), `~ \u00e9\x1b`; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}
