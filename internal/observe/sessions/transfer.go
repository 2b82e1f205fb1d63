package sessions

import (
	"time"

	"ftpgate/internal/core/pinhole"
)

// describe fills in the session's part of a transfer.
func (r *Record) describe(t *Transfer) {
	t.Session, t.Forward, t.User, t.Type = r.ID(), r.start.Forward, r.user, r.typeCode
	t.Client, t.Server, t.Certificate = r.start.Client.Addr(), r.server, r.certificate
}

// inDirection drops the bytes against the direction of a transfer: FTP sends no data there, and the kernel
// counts packets. If the gateway could not read the command, the data shows the direction.
func (t *Transfer) inDirection(o pinhole.Outcome) pinhole.Outcome {
	if t.Direction == Unknown && o.Up != o.Down {
		t.Direction = Download
		if o.Up > o.Down {
			t.Direction = Upload
		}
	}
	switch t.Direction {
	case Download:
		o.Up = 0
	case Upload:
		o.Down = 0
	}
	return o
}

// measure fills in the bytes of a transfer.
func (t *Transfer) measure(o pinhole.Outcome, now time.Time) {
	t.Connected = o.Connected
	if now.Before(t.Connected) { // it was reported later
		t.Connected = now
	}
	switch t.Direction {
	case Upload:
		t.Bytes = o.Up
	case Download:
		t.Bytes = o.Down
	default:
		t.Bytes = o.Up + o.Down
	}
	if took := now.Sub(t.Began); took > 0 {
		t.Rate = int64(float64(t.Bytes) / took.Seconds())
	}
}
