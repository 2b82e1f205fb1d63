package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// writeTable prints the rows for a person. Those of FTPS are held against others than the rest, and so
// have a table of their own.
func writeTable(w io.Writer, rows []row) error {
	var aligned bytes.Buffer
	for i, part := range split(rows) {
		if i > 0 {
			fmt.Fprintln(&aligned)
		}
		writePart(&aligned, part)
	}
	for line := range strings.Lines(aligned.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return fmt.Errorf("bench: table: %w", err)
		}
	}
	return nil
}

// split makes one part of the rows in clear and one of those of FTPS; neither is empty.
func split(rows []row) (parts [][]row) {
	for _, ftps := range []bool{false, true} {
		part := slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.ftps != ftps })
		if len(part) > 0 {
			parts = append(parts, part)
		}
	}
	return parts
}

// writePart prints rows that are held against the same contestants.
func writePart(w *bytes.Buffer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	heads := []string{"measure", "contestant", "median", "from - to", "unit"}
	for _, base := range rows[0].baselines() {
		heads = append(heads, "to "+base)
	}
	heads = append(heads, "target", "met")
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	last := rows[0].name
	for _, r := range rows {
		if last != r.name {
			fmt.Fprintln(t, strings.Repeat("\t", len(heads)-1))
		}
		last = r.name
		asked, met := r.verdict()
		cells := []string{r.name, r.contestant, number(r.figure()), number(slices.Min(r.rounds)) + " - " + number(slices.Max(r.rounds)), r.unit}
		for _, base := range r.baselines() {
			cell := "-"
			if v, known := r.against(base); known {
				cell = r.relation.text(v)
			}
			cells = append(cells, cell)
		}
		fmt.Fprintln(t, strings.Join(append(cells, asked, met), "\t"))
	}
	_ = t.Flush() // into memory
}

// number writes a figure with as many digits as mean something.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// writeCSV writes the rows for a program, with the figure of each round.
func writeCSV(w io.Writer, rows []row) error {
	c := csv.NewWriter(w)
	heads := []string{"measure", "contestant", "unit", "median", "min", "max"}
	for _, base := range baselines {
		heads = append(heads, "to_"+base)
	}
	records := [][]string{append(heads, "target", "met", "rounds")}
	for _, r := range rows {
		asked, met := r.verdict()
		record := []string{r.name, r.contestant, r.unit, exact(r.figure()), exact(slices.Min(r.rounds)), exact(slices.Max(r.rounds))}
		for _, base := range baselines {
			cell := ""
			if v, known := r.against(base); known {
				cell = exact(v)
			}
			record = append(record, cell)
		}
		var rounds []string
		for _, v := range r.rounds {
			rounds = append(rounds, exact(v))
		}
		records = append(records, append(record, asked, met, strings.Join(rounds, " ")))
	}
	if err := c.WriteAll(records); err != nil {
		return fmt.Errorf("bench: CSV: %w", err)
	}
	return nil
}

func exact(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }
