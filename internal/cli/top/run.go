package top

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"ftpgate/internal/core/finding"
)

const (
	// requestTime bounds what the operator has asked for.
	requestTime = 10 * time.Second
	// explainTime bounds the question for a time line: the screen must go on.
	explainTime = time.Second
)

// framesPerSecond is how often the screen may be drawn anew. Each frame goes over ssh.
const framesPerSecond = 20

// Run shows the screen on a terminal until the operator or ctx ends it, and asks the source every interval.
// It gives the terminal back as it was.
func Run(ctx context.Context, state State, source Source, interval time.Duration, in io.Reader,
	out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	p := &program{state: state, asker: &asker{
		source: source, interval: interval, wake: make(chan struct{}, 1), requests: make(chan Request, 8)}}
	screen := tea.NewProgram(p, tea.WithInput(in), tea.WithOutput(out), tea.WithFPS(framesPerSecond),
		tea.WithoutSignalHandler())
	p.send = func(event any) { screen.Send(event) }
	var tasks sync.WaitGroup
	tasks.Go(func() { p.poll(ctx) })
	tasks.Go(func() { p.carryOut(ctx) })
	tasks.Go(func() {
		<-ctx.Done()
		screen.Quit() // has no effect if it has ended
	})
	_, err := screen.Run()
	stop()
	tasks.Wait()
	return err
}

// program connects a State to a terminal. It implements tea.Model; one goroutine calls its methods.
type program struct {
	state State
	*asker
}

// Init implements tea.Model.
func (p *program) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (p *program) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	event := eventOf(msg)
	if event == nil {
		return p, nil
	}
	var r Request
	p.state, r = p.state.Update(event)
	p.setWanted(p.state.Wanted())
	switch {
	case r.Quit:
		return p, tea.Quit
	case r.Suspend:
		return p, tea.Suspend
	case r.Redraw:
		return p, tea.ClearScreen
	case r.Poll:
		p.pollNow()
	case r.Kill != SessionID{} || r.Ban.Key != "":
		select {
		case p.requests <- r:
		default:
			p.state, _ = p.state.Update(Result{"still busy with what was asked before", true})
		}
	}
	return p, nil
}

// View implements tea.Model.
func (p *program) View() tea.View {
	v := tea.NewView(paint(p.state.Lines()))
	v.AltScreen = true
	return v
}

// eventOf returns the event of a message; nil: it is none of a State.
func eventOf(msg tea.Msg) any {
	switch m := msg.(type) {
	case tea.WindowSizeMsg:
		return Size{m.Width, m.Height}
	case tea.PasteMsg:
		return Paste(m.Content)
	case tea.KeyPressMsg:
		return Key(m.String())
	case Answer, TimeLine, Result:
		return m
	}
	return nil
}

// SGR (ECMA-48 section 8.3.117): what package terminal has let through contains none.
const (
	sgrReset   = "\x1b[m"
	sgrBold    = "\x1b[1m"
	sgrReverse = "\x1b[7m"
	sgrRed     = "\x1b[31m"
)

// paint returns lines with their styles. Where the terminal has no colours, or NO_COLOR is set, bubbletea
// leaves the colour out.
func paint(lines []Line) string {
	begin := map[Style]string{Title: sgrBold, Selected: sgrReverse, Bad: sgrRed}
	var b strings.Builder
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		if sgr := begin[l.Style]; sgr != "" && l.Text != "" {
			b.WriteString(sgr + l.Text + sgrReset)
			continue
		}
		b.WriteString(l.Text)
	}
	return b.String()
}

// asker asks the source for a program: at intervals, and when the operator wants something.
type asker struct {
	source   Source
	interval time.Duration
	send     func(event any) // returns also when the program has ended
	wake     chan struct{}
	requests chan Request

	mu      sync.Mutex
	ended   bool
	explain SessionID // zero: none
}

func (a *asker) setWanted(ended bool, explain SessionID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended, a.explain = ended, explain
}

func (a *asker) wanted() (ended bool, explain SessionID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended, a.explain
}

func (a *asker) pollNow() {
	select {
	case a.wake <- struct{}{}:
	default: // it is about to
	}
}

// poll asks at each interval until ctx ends.
func (a *asker) poll(ctx context.Context) {
	tick := time.NewTicker(a.interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		ended, explain := a.wanted()
		if explain != (SessionID{}) {
			within, stop := context.WithTimeout(ctx, explainTime)
			found, err := a.source.Explain(within, explain)
			stop()
			a.send(TimeLine{explain, found, err})
		}
		all := a.source.Poll(ctx, ended)
		a.send(Answer{time.Now(), all})
		select {
		case <-ctx.Done():
		case <-a.wake:
		case <-tick.C:
		}
	}
}

// carryOut does what the operator has asked for, one after the other, until ctx ends.
func (a *asker) carryOut(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-a.requests:
			within, stop := context.WithTimeout(ctx, requestTime)
			text, err := a.do(within, r)
			stop()
			if err != nil {
				text = err.Error()
			}
			a.send(Result{text, err != nil})
		}
	}
}

func (a *asker) do(ctx context.Context, r Request) (string, error) {
	if r.Ban.Key == "" {
		return "session " + r.Kill.ID + ": ending", a.source.Kill(ctx, r.Kill)
	}
	banned, err := a.source.Ban(ctx, r.Ban.Key, r.Ban.BanRequest)
	if err != nil {
		return "", err
	}
	until := "until it is lifted"
	if !banned.Until.IsZero() {
		until = "until " + banned.Until.Local().Format(time.DateTime)
	}
	return banned.Name() + ": banned " + until + ", " + finding.Plural(banned.Ended, "session") + " ended",
		nil
}
