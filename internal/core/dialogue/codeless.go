package dialogue

import (
	"bytes"
	"slices"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// NotFTP is the reason for a client whose server speaks another protocol.
const NotFTP = "the server's answer is not FTP"

// maxCodeless is how many lines without a code may come in a row.
const maxCodeless = 16

// lineWithoutCode passes on a line that stands where a reply should begin: servers have banners of two lines
// and blank lines, and clients read over them. Nothing in it means anything here. What clients say ends the
// session.
func (d *Dialogue) lineWithoutCode(s *Step, line ftp.ServerLine) {
	if d.codeless++; line.Endless || isCommand(line.Text) || d.codeless > maxCodeless {
		s.end(verdict.RefusedBadReply, NotFTP)
		return
	}
	d.pass(s, line)
}

// Codeless reports whether the server's last line had no code.
func (d *Dialogue) Codeless() bool { return d.codeless > 0 }

// clientVerbs are commands that no line for people begins with.
var clientVerbs = []string{"USER", "PASS", "QUIT", "PASV", "EPSV", "PORT", "EPRT", "RETR", "STOR", "NOOP"}

// isCommand reports whether a line is a client's command: somebody sends back to us what we send.
func isCommand(line []byte) bool {
	word, _, _ := bytes.Cut(line, []byte{' '})
	return slices.Contains(clientVerbs, string(word))
}
