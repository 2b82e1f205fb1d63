package dialogue

import "ftpgate/internal/core/ftp"

// heldBack keeps the lines of a transfer's last reply until it is complete: Broken may have to take its
// place.
type heldBack struct {
	lines []byte
	began bool // lines of the reply were passed on: nothing takes its place any more
}

// maxHeldBack is how much is kept, in bytes. A longer reply passes on as it comes.
const maxHeldBack = 16 << 10

// holdBack keeps a line of the reply under way.
func (d *Dialogue) holdBack(s *Step, line ftp.ServerLine) {
	if !d.began && len(d.lines)+len(line.Text) < maxHeldBack {
		d.lines = appendLine(d.lines, line.Text)
		return
	}
	d.pass(s, line)
	d.began = true
}
