package dialogue

import "ftpgate/internal/core/ftp"

// heldBack keeps the lines of a reply until it is complete: another may have to take its place.
type heldBack struct {
	lines []byte
	began bool // lines of the reply were passed on: nothing takes its place any more
}

// maxHeldBack is how much is kept, in bytes.
const maxHeldBack = 16 << 10

// holdBack keeps a line of a transfer's last reply; one that is longer passes on as it comes.
func (d *Dialogue) holdBack(s *Step, line ftp.ServerLine) {
	if !d.began && d.hold(line) {
		return
	}
	d.pass(s, line)
	d.began = true
}

// hold keeps a line of the reply under way; false: there is no room for it.
func (d *Dialogue) hold(line ftp.ServerLine) bool {
	if len(d.lines)+len(line.Text) >= maxHeldBack {
		return false
	}
	d.lines = appendLine(d.lines, line.Text)
	return true
}
