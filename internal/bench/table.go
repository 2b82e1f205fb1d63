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

// writeTable prints the rows for a person.
func writeTable(w io.Writer, rows []row) error {
	var aligned bytes.Buffer
	t := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measure\tcontestant\tmedian\tfrom - to\tunit\tto routed\tto helper\ttarget\tmet")
	last := ""
	for _, r := range rows {
		if last != "" && last != r.name {
			fmt.Fprintln(t, "\t\t\t\t\t\t\t\t")
		}
		last = r.name
		asked, met := r.verdict()
		cells := []string{r.name, r.contestant, number(r.figure()), number(slices.Min(r.rounds)) + " - " + number(slices.Max(r.rounds)), r.unit}
		for _, base := range baselines {
			cell := "-"
			if v, known := r.against(base); known {
				cell = r.relation.text(v)
			}
			cells = append(cells, cell)
		}
		fmt.Fprintln(t, strings.Join(append(cells, asked, met), "\t"))
	}
	_ = t.Flush() // into memory
	for line := range strings.Lines(aligned.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return fmt.Errorf("bench: table: %w", err)
		}
	}
	return nil
}

// number writes a figure with as many digits as mean something.
func number(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// writeCSV writes the rows for a program, with the figure of each round.
func writeCSV(w io.Writer, rows []row) error {
	c := csv.NewWriter(w)
	records := [][]string{{"measure", "contestant", "unit", "median", "min", "max", "to_routed", "to_helper", "target", "met", "rounds"}}
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
