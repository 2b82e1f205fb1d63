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
	all := p.Find()
	var wait sync.WaitGroup
	for _, i := range all {
		wait.Go(func() {
			within, stop := context.WithTimeout(ctx, AnswerTime)
			defer stop()
			i.Ask(within)
			if errors.Is(i.Err, context.DeadlineExceeded) {
				i.Err = fmt.Errorf("it does not answer within %s", AnswerTime)
			}
		})
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

// Find returns an instance for each socket, without asking it: the process behind the socket may have ended.
// The caller closes each.
func (p Places) Find() []*Instance {
	var all []*Instance
	for _, s := range p.find() {
		i := &Instance{Socket: s.path, UID: s.uid, Foreign: s.foreign, socket: s}
		i.Client = admin.NewDialClient(i.Socket, func(ctx context.Context) (net.Conn, error) {
			c, _, err := s.dial(ctx)
			return c, err
		})
		all = append(all, i)
	}
	return all
}

// Key returns what no other instance has, also not the same ftpgate after a restart, as long as this one is
// not closed.
func (i *Instance) Key() string {
	if i.socket == nil {
		return i.Socket
	}
	return fmt.Sprint(i.socket.id.dev, " ", i.socket.id.ino)
}

// Ask asks an instance for its PID and its Status, or sets its Err.
func (i *Instance) Ask(ctx context.Context) {
	if i.socket != nil { // an error comes again below, in the client's words
		if c, pid, err := i.socket.dial(ctx); err == nil {
			i.PID = pid
			c.Close()
		}
	}
	i.Status, i.Err = i.Client.Status(ctx)
	if i.PID == 0 {
		i.PID = i.Status.PID // in its own PID namespace
	}
}
