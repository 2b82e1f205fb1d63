package dialogue

import (
	"ftpgate/internal/core/ftp"
)

// heldReply is a reply that ends a transfer, until it is complete: another may have to take its place.
type heldReply struct {
	lines      []byte
	partlySent bool // lines of the reply were passed on: nothing takes its place any more
}

// maxHeldBack is how much is kept, in bytes.
const maxHeldBack = 16 << 10

// holdBack keeps a line of a transfer's last reply; one that is longer passes on as it comes.
func (d *Dialogue) holdBack(s *Step, line ftp.ServerLine) {
	if !d.held.partlySent && d.hold(line) {
		return
	}
	d.pass(s, line)
	d.held.partlySent = true
}

// hold keeps a line of the reply under way; false: there is no room for it.
func (d *Dialogue) hold(line ftp.ServerLine) bool {
	if len(d.held.lines)+len(line.Text) >= maxHeldBack {
		return false
	}
	d.held.lines = appendLine(d.held.lines, line)
	return true
}
