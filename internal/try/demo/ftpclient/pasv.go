package ftpclient

import (
	"context"
	"errors"
	"time"

	"ftpgate/internal/core/ftp"
)

// AskPASV sends PASV, behind a TYPE in the same piece where together is set, and waits for the 227. The
// error wraps os.ErrDeadlineExceeded where no answer comes in time.
func (c *Client) AskPASV(ctx context.Context, together bool, patience time.Duration) (ftp.Reply, error) {
	commands := []ftp.Command{{Verb: "PASV"}}
	if together {
		commands = append([]ftp.Command{{Verb: "TYPE", Arg: []byte("I")}}, commands...)
	}
	if err := c.SendTogether(ctx, commands...); err != nil {
		return ftp.Reply{}, err
	}
	if err := c.control.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return ftp.Reply{}, err
	}
	if together {
		if err := c.Expect(ctx, "TYPE", 2); err != nil {
			return ftp.Reply{}, err
		}
	}
	r, err := c.reply(ctx)
	if err != nil {
		return r, err
	}
	return r, errors.Join(wantClass("PASV", r, 2), c.control.SetReadDeadline(time.Time{}))
}
