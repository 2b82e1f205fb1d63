package sessions

import (
	"time"
)

// describe fills in the session's part of a transfer.
func (r *Record) describe(t *Transfer) {
	t.Session, t.Forward, t.User, t.Type = r.ID(), r.start.Forward, r.user, r.typeCode
	t.Client, t.Server = r.start.Client.Addr(), r.server
}

// inDirection drops what went against the direction of a transfer: FTP sends no data there, and the kernel
// counts packets. If the gateway could not read the command, the data tells the direction.
func (t *Transfer) inDirection(p Progress) Progress {
	if t.Direction == Unknown && p.Up != p.Down {
		t.Direction = Download
		if p.Up > p.Down {
			t.Direction = Upload
		}
	}
	switch t.Direction {
	case Download:
		p.Up = 0
	case Upload:
		p.Down = 0
	}
	return p
}

// measure fills in the progress of a transfer.
func (t *Transfer) measure(p Progress, now time.Time) {
	t.Connected = p.Connected
	if now.Before(t.Connected) { // it was reported later
		t.Connected = now
	}
	switch t.Direction {
	case Upload:
		t.Bytes = p.Up
	case Download:
		t.Bytes = p.Down
	default:
		t.Bytes = p.Up + p.Down
	}
	if took := now.Sub(t.Began); took > 0 {
		t.Rate = int64(float64(t.Bytes) / took.Seconds())
	}
}
