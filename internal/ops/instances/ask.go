package instances

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"ftpgate/internal/ops/admin"
)

// AnswerTime is how long an ftpgate may take to say what it is. One that hangs must not keep the others from
// being seen.
const AnswerTime = time.Second

// Instance is an ftpgate that runs.
type Instance struct {
	*admin.Client
	Socket string       // the path
	UID    int          // of its user
	PID    int          // of its process; 0: unknown
	Status admin.Status // of the moment when it was asked
	Err    error        // why it does not answer; the Status is empty

	Foreign bool // another user runs it, and is not trusted

	socket *socket // nil: not found by Ask
}

// Close releases the instance and its client.
func (i *Instance) Close() {
	i.Client.Close()
	if i.socket != nil {
		i.socket.file.Close()
	}
}

// Ask asks all instances for their status, at the same time, and returns them, the oldest first and those
// that do not answer last. The caller closes each. Sockets of dead processes are removed where they are the
// user's own. If there is none the error is admin.ErrNotRunning, or admin.ErrNoPermission if the user may not
// ask the one at Default.
func (p Places) Ask(ctx context.Context) ([]*Instance, error) {
	var all []*Instance
	var wait sync.WaitGroup
	for _, s := range p.find() {
		i := &Instance{Socket: s.path, UID: s.uid, Foreign: s.foreign, socket: s}
		all = append(all, i)
		wait.Go(func() { i.ask(ctx) })
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		closeAll(all)
		return nil, err
	}
	var answering, silent []*Instance
	none := fmt.Errorf("%w: %s", admin.ErrNotRunning, p.whose())
	for _, i := range all {
		switch {
		case errors.Is(i.Err, admin.ErrNotRunning):
			if i.socket.ours {
				admin.RemoveDead(i.Socket)
			}
			i.Close()
		case errors.Is(i.Err, admin.ErrNoPermission): // another user's
			if i.Socket == p.Default {
				none = i.Err
			}
			i.Close()
		case i.Err != nil:
			silent = append(silent, i)
		default:
			answering = append(answering, i)
		}
	}
	if len(answering)+len(silent) == 0 {
		return nil, none
	}
	slices.SortStableFunc(answering, func(a, b *Instance) int {
		return a.Status.Since.Compare(
			b.Status.Since)
	})
	return slices.Concat(answering, silent), nil
}

func closeAll(all []*Instance) {
	for _, i := range all {
		i.Close()
	}
}

// whose says whose instances were looked for.
func (p Places) whose() string {
	if p.UID == 0 {
		return "no socket answers"
	}
	return "no socket of yours answers, and only root sees those of other users"
}

// ask fills in who the instance is.
func (i *Instance) ask(ctx context.Context) {
	i.Client = admin.NewDialClient(i.Socket, func(ctx context.Context) (net.Conn, error) {
		c, _, err := i.socket.dial(ctx)
		return c, err
	})
	within, stop := context.WithTimeout(ctx, AnswerTime)
	defer stop()
	if c, pid, err := i.socket.dial(within); err == nil { // an error comes again below, in the client's words
		i.PID = pid
		c.Close()
	}
	i.Status, i.Err = i.Client.Status(within)
	if i.PID == 0 {
		i.PID = i.Status.PID // in its own PID namespace
	}
	if errors.Is(i.Err, context.DeadlineExceeded) {
		i.Err = fmt.Errorf("it does not answer within %s", AnswerTime)
	}
}
