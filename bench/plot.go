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

// writePlot draws one panel a measure: a bar for each contestant with its slowest and its fastest
// round, and a line at what is asked for.
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
		PadTop: vg.Millimeter * 3, PadBottom: vg.Millimeter * 3, PadLeft: vg.Millimeter * 3, PadRight: vg.Millimeter * 3}
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
	spans := spread{}
	for i, r := range rows {
		names = append(names, r.contestant)
		figures[i] = r.figure()
		spans.XYs = append(spans.XYs, plotter.XY{X: float64(i), Y: figures[i]})
		spans.YErrors = append(spans.YErrors, struct{ Low, High float64 }{figures[i] - slices.Min(r.rounds), slices.Max(r.rounds) - figures[i]})
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
		y, known := r.goalHeight(rows)
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

// spread is what NewYErrorBars draws: points, and how far rounds went below and above.
type spread struct {
	plotter.XYs
	plotter.YErrors
}

// goalHeight is the figure that would just meet the row's target, among the rows of its measure.
func (r row) goalHeight(rows []row) (float64, bool) {
	if r.goal == nil {
		return 0, false
	}
	if r.goal.versus == "" {
		return r.goal.bound, true
	}
	i := slices.IndexFunc(rows, func(other row) bool { return other.contestant == r.goal.versus })
	if i < 0 {
		return 0, false
	}
	if r.relation == difference {
		return rows[i].figure() + r.goal.bound, true
	}
	return rows[i].figure() * r.goal.bound, true
}
