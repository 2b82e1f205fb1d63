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

// writeTable prints the rows for a reader. Those with TLS have other baselines, and so a table of their own.
func writeTable(w io.Writer, rows []row) error {
	var aligned bytes.Buffer
	for i, part := range splitTLS(rows) {
		if i > 0 {
			fmt.Fprintln(&aligned)
		}
		writeTablePart(&aligned, part)
	}
	for line := range strings.Lines(aligned.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return fmt.Errorf("bench: table: %w", err)
		}
	}
	return nil
}

// splitTLS separates the rows without TLS from those with it, and leaves out an empty part.
func splitTLS(rows []row) (parts [][]row) {
	for _, ftps := range []bool{false, true} {
		part := slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.ftps != ftps })
		if len(part) > 0 {
			parts = append(parts, part)
		}
	}
	return parts
}

// writeTablePart prints rows that have the same baselines.
func writeTablePart(w *bytes.Buffer, rows []row) {
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
		wanted, met := r.targetResult()
		span := formatShort(slices.Min(r.rounds)) + " - " + formatShort(slices.Max(r.rounds))
		cells := []string{r.name, r.contestant, formatShort(r.value()), span, r.unit}
		for _, base := range r.baselines() {
			cell := "-"
			if v, known := r.relationTo(base); known {
				cell = r.relation.format(v)
			}
			cells = append(cells, cell)
		}
		fmt.Fprintln(t, strings.Join(append(cells, wanted, met), "\t"))
	}
	_ = t.Flush() // into memory
}

// formatShort writes a value with as many digits as are significant.
func formatShort(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// writeCSV writes the rows for other programs, with the value of each round.
func writeCSV(w io.Writer, rows []row) error {
	c := csv.NewWriter(w)
	heads := []string{"measure", "contestant", "unit", "median", "min", "max"}
	for _, base := range baselines {
		heads = append(heads, "to_"+base)
	}
	records := [][]string{append(heads, "target", "met", "rounds")}
	for _, r := range rows {
		wanted, met := r.targetResult()
		record := []string{r.name, r.contestant, r.unit, formatExact(r.value()),
			formatExact(slices.Min(r.rounds)), formatExact(slices.Max(r.rounds))}
		for _, base := range baselines {
			cell := ""
			if v, known := r.relationTo(base); known {
				cell = formatExact(v)
			}
			record = append(record, cell)
		}
		var rounds []string
		for _, v := range r.rounds {
			rounds = append(rounds, formatExact(v))
		}
		records = append(records, append(record, wanted, met, strings.Join(rounds, " ")))
	}
	if err := c.WriteAll(records); err != nil {
		return fmt.Errorf("bench: CSV: %w", err)
	}
	return nil
}

func formatExact(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }
