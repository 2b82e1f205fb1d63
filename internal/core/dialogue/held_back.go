package dialogue

import (
	"ftpgate/internal/core/ftp"
)

// heldReply is a reply that ends a transfer. It is held until it is complete, because another reply may have
// to replace it.
type heldReply struct {
	lines      []byte
	partlySent bool // lines of the reply were sent: it cannot be replaced any more
}

// maxHeldBack is the limit of a held reply, in bytes.
const maxHeldBack = 16 << 10

// holdBack keeps a line of a transfer's last reply; a longer reply is forwarded as it arrives.
func (d *Dialogue) holdBack(s *Step, line ftp.ServerLine) {
	if !d.held.partlySent && d.hold(line) {
		return
	}
	d.pass(s, line)
	d.held.partlySent = true
}

// hold keeps a line of the reply under way; false: the reply is too long.
func (d *Dialogue) hold(line ftp.ServerLine) bool {
	if len(d.held.lines)+len(line.Text) >= maxHeldBack {
		return false
	}
	d.held.lines = appendLine(d.held.lines, line)
	return true
}
