package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/cli/top"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/instances"
)

// pollTime bounds a question to one ftpgate. Poll returns long before.
const pollTime = 30 * time.Second

// poller asks the ftpgates that the flags name again and again. It implements top.Source. Close it.
type poller struct {
	flags  *adminFlags
	asking sync.WaitGroup // a goroutine for each question

	mu    sync.Mutex
	known []*polled
}

// polled is an ftpgate that a poller asks. Only Poll changes it.
type polled struct {
	*instances.Instance
	key    string
	fixed  bool            // --socket names it: it stays where it does not run
	last   top.Instance    // what it said last
	names  []string        // what --instance accepts for it
	asked  time.Time       // when the question began
	answer chan pollAnswer // of the question that runs; nil: none runs
}

type pollAnswer struct {
	top.Instance
	names []string
	err   error
}

// newPoller returns a poller if an ftpgate runs that the flags name. The error is that of the other commands.
func newPoller(ctx context.Context, flags *adminFlags) (*poller, error) {
	d, err := flags.reach(ctx)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if flags.target != "" {
		if _, err := d.found[0].Client.Status(ctx); err != nil {
			return nil, err
		}
	}
	return &poller{flags: flags}, nil
}

// close waits for all questions, whose context has ended.
func (p *poller) close() {
	p.asking.Wait()
	for _, k := range p.known {
		k.Close()
	}
}

// Poll implements top.Source.
func (p *poller) Poll(ctx context.Context, ended bool) []top.Instance {
	p.find()
	for _, k := range p.known {
		if k.answer == nil {
			k.answer, k.asked = make(chan pollAnswer, 1), time.Now()
			p.asking.Go(func() { k.answer <- p.ask(ctx, k.Instance, ended) })
		}
	}
	within, stop := context.WithTimeout(ctx, instances.AnswerTime)
	defer stop()
	var all []top.Instance
	var stay []*polled
	for _, k := range p.known {
		if !k.wait(within) {
			k.Close()
			continue
		}
		stay = append(stay, k)
		if p.flags.instance == "" || slices.Contains(k.names, p.flags.instance) {
			all = append(all, k.last)
		}
	}
	p.mu.Lock()
	p.known = stay
	p.mu.Unlock()
	slices.SortStableFunc(all, func(a, b top.Instance) int { return a.Status.Since.Compare(b.Status.Since) })
	return all
}

// find adds the ftpgates that are new.
func (p *poller) find() {
	var found []*instances.Instance
	switch {
	case p.flags.target == "":
		found = p.flags.places.Find()
	case len(p.known) == 0:
		c, err := p.flags.client()
		if err != nil {
			return // the token was read before; now it cannot be
		}
		found = []*instances.Instance{{Client: c, Socket: p.flags.target}}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range found {
		key := i.Key()
		if slices.ContainsFunc(p.known, func(k *polled) bool { return k.key == key }) {
			i.Close()
			continue
		}
		k := &polled{Instance: i, key: key, fixed: p.flags.target != ""}
		k.last = top.Instance{Key: key, Title: i.Socket}
		p.known = append(p.known, k)
	}
}

// ask asks one ftpgate.
func (p *poller) ask(ctx context.Context, i *instances.Instance, ended bool) (a pollAnswer) {
	ctx, stop := context.WithTimeout(ctx, pollTime)
	defer stop()
	defer i.Client.Close() // a connection to another user's ftpgate serves for a minute only
	i.Ask(ctx)
	if a.err = i.Err; a.err != nil {
		return a
	}
	for one, err := range i.Sessions(ctx, admin.Filter{Ended: ended}) {
		if err != nil {
			a.err = err
			return a
		}
		a.Sessions = append(a.Sessions, one)
	}
	if i.PID == 0 {
		i.PID = i.Status.PID
	}
	d := &daemons{uid: p.flags.places.UID}
	a.PID, a.Status, a.At, a.names = i.PID, i.Status, time.Now(), namesOf(i)
	a.Title = d.describe(i)
	return a
}

// wait waits for the answer, and takes it over. It returns false if the ftpgate has ended.
func (k *polled) wait(ctx context.Context) (runs bool) {
	var a pollAnswer
	select {
	case a = <-k.answer:
	case <-ctx.Done():
		select {
		case a = <-k.answer:
		default:
			waited := time.Since(k.asked)
			if !k.last.At.IsZero() {
				waited = time.Since(k.last.At)
			}
			k.last.Problem = "has not answered for " + terminal.Age(waited)
			return true
		}
	}
	k.answer = nil
	switch {
	case a.err == nil:
		a.Instance.Key = k.key
		k.last, k.names = a.Instance, a.names
		return true
	case !k.fixed && (errors.Is(a.err, admin.ErrNotRunning) || errors.Is(a.err, admin.ErrNoPermission)):
		return false
	}
	k.last.Problem = "does not answer: " + a.err.Error()
	return true
}

// client returns the client of an ftpgate.
func (p *poller) client(key string) (*admin.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.known {
		if k.key == key {
			return k.Client, nil
		}
	}
	return nil, fmt.Errorf("the ftpgate of this session has ended")
}

// Explain implements top.Source.
func (p *poller) Explain(ctx context.Context, of top.SessionID) (sessions.Explained, error) {
	c, err := p.client(of.Key)
	if err != nil {
		return sessions.Explained{}, err
	}
	return c.Explain(ctx, of.ID)
}

// Kill implements top.Source.
func (p *poller) Kill(ctx context.Context, of top.SessionID) error {
	c, err := p.client(of.Key)
	if err != nil {
		return err
	}
	return c.Kill(ctx, of.ID)
}

// Ban implements top.Source.
func (p *poller) Ban(ctx context.Context, key string, b admin.BanRequest) (admin.Banned, error) {
	c, err := p.client(key)
	if err != nil {
		return admin.Banned{}, err
	}
	return c.Ban(ctx, b)
}
