package dialogue

import (
	"bytes"
	"slices"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// The reasons for a client whose server does not serve it.
const (
	NotFTP        = "the server's answer is not FTP"
	NoSessionsNow = "the server takes no sessions now" // it greets with a refusal
	ServerSilent  = "the server does not answer"
	ServerLeft    = "the server closed the connection"
)

// maxCodeless is how many lines without a code in a row are accepted.
const maxCodeless = 16

// lineWithoutCode forwards a line without a code where a reply should begin: some servers send banners of two
// lines and blank lines, and clients skip them. A line with a client's command ends the session.
func (d *Dialogue) lineWithoutCode(s *Step, line ftp.ServerLine) {
	if d.codeless++; line.Endless || isCommand(line.Text) || d.codeless > maxCodeless {
		s.end(verdict.RefusedBadReply, NotFTP)
		return
	}
	d.pass(s, line)
}

// OtherProtocol reports whether the server has said something, and no greeting.
func (d *Dialogue) OtherProtocol() bool { return d.codeless > 0 && !d.Greeted() }

// clientVerbs are commands with which no banner line begins.
var clientVerbs = []string{"USER", "PASS", "QUIT", "PASV", "EPSV", "PORT", "EPRT", "RETR", "STOR", "NOOP"}

// isCommand reports whether a line is a client's command: the peer echoes what we send.
func isCommand(line []byte) bool {
	word, _, _ := bytes.Cut(line, []byte{' '})
	return slices.Contains(clientVerbs, string(word))
}
