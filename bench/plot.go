package main

import (
	"fmt"
	"image/color"
	"io"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	panelWidth  = 4 * vg.Inch
	panelHeight = 3 * vg.Inch
	barWidth    = 28 // points
	perLine     = 2  // panels
)

// writePlot draws one panel for each measure: a bar for each contestant with its slowest and its fastest
// round, and a line at the target.
func writePlot(w io.Writer, rows []row) error {
	var panels [][]row
	for _, r := range rows {
		i := slices.IndexFunc(panels, func(p []row) bool { return p[0].name == r.name })
		if i < 0 {
			panels = append(panels, nil)
			i = len(panels) - 1
		}
		panels[i] = append(panels[i], r)
	}
	lines := (len(panels) + perLine - 1) / perLine
	canvas := vgsvg.New(perLine*panelWidth, vg.Length(lines)*panelHeight)
	tiles := draw.Tiles{Cols: perLine, Rows: lines, PadX: vg.Millimeter * 4, PadY: vg.Millimeter * 6,
		PadTop: vg.Millimeter * 3, PadBottom: vg.Millimeter * 3, PadLeft: vg.Millimeter * 3,
		PadRight: vg.Millimeter * 3}
	for i, p := range panels {
		drawn, err := panel(p)
		if err != nil {
			return fmt.Errorf("bench: plot %s: %w", p[0].name, err)
		}
		drawn.Draw(tiles.At(draw.New(canvas), i%perLine, i/perLine))
	}
	if _, err := canvas.WriteTo(w); err != nil {
		return fmt.Errorf("bench: plot: %w", err)
	}
	return nil
}

// panel draws the rows of one measure.
func panel(rows []row) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = rows[0].title
	p.Y.Label.Text = rows[0].unit
	p.Y.Min = 0
	var names []string
	figures := make(plotter.Values, len(rows))
	spans := valueRanges{}
	for i, r := range rows {
		names = append(names, r.contestant)
		figures[i] = r.value()
		spans.XYs = append(spans.XYs, plotter.XY{X: float64(i), Y: figures[i]})
		below, above := figures[i]-slices.Min(r.rounds), slices.Max(r.rounds)-figures[i]
		spans.YErrors = append(spans.YErrors, struct{ Low, High float64 }{below, above})
	}
	bars, err := plotter.NewBarChart(figures, barWidth)
	if err != nil {
		return nil, err
	}
	bars.Color = color.RGBA{R: 0x5b, G: 0x8d, B: 0xb8, A: 0xff}
	bars.LineStyle.Width = 0
	errorBars, err := plotter.NewYErrorBars(spans)
	if err != nil {
		return nil, err
	}
	p.Add(bars, errorBars)
	for i, r := range rows {
		y, known := r.targetHeight(rows)
		if !known {
			continue
		}
		line, err := plotter.NewLine(plotter.XYs{{X: float64(i) - 0.4, Y: y}, {X: float64(i) + 0.4, Y: y}})
		if err != nil {
			return nil, err
		}
		line.Color = color.RGBA{R: 0xc0, G: 0x39, B: 0x2b, A: 0xff}
		line.Width = vg.Points(2)
		p.Add(line)
		p.X.Label.Text = "the line is the target"
	}
	p.NominalX(names...)
	return p, nil
}

// valueRanges is the input of NewYErrorBars: points, and how far the rounds went below and above.
type valueRanges struct {
	plotter.XYs
	plotter.YErrors
}

// targetHeight returns the value that just meets the row's target, and false if there is none. rows are those
// of its measure.
func (r row) targetHeight(rows []row) (float64, bool) {
	if r.target == nil {
		return 0, false
	}
	if r.target.baseline == "" {
		return r.target.bound, true
	}
	i := slices.IndexFunc(rows, func(other row) bool { return other.contestant == r.target.baseline })
	if i < 0 {
		return 0, false
	}
	if r.relation == difference {
		return rows[i].value() + r.target.bound, true
	}
	return rows[i].value() * r.target.bound, true
}
