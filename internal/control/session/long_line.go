package session

import (
	"errors"

	"ftpgate/internal/core/ftp"
)

// A line of a reply may be longer than ftp.DefaultLineLimit, and is then in memory as a whole. Only a few
// sessions of a forward may have one at the same time, so that a server cannot fill the gateway's memory.
const (
	maxLongLine  = 256 << 10 // bytes
	maxLongLines = 16        // sessions
)

// beginLongLine reports whether a session may read a long line now. If so, the caller must call endLongLine.
func (e *Env) beginLongLine() bool {
	if e.longLines.Add(1) <= maxLongLines {
		return true
	}
	e.endLongLine()
	return false
}

func (e *Env) endLongLine() { e.longLines.Add(-1) }

// isTooLong reports whether an error is about the length of a line.
func isTooLong(err error) bool {
	_, long := errors.AsType[*ftp.TooLongError](err)
	return long
}
