package dialogue

import (
	"bytes"
	"slices"

	"ftpgate/internal/core/ftp"
)

// maxCodeless is how many lines without a code may come in a row.
const maxCodeless = 16

// lineWithoutCode passes on a line that stands where a reply should begin: servers have banners of two lines
// and blank lines, and clients read over them. Nothing in it means anything here. What other protocols and
// clients say ends the session.
func (d *Dialogue) lineWithoutCode(s *Step, line ftp.ServerLine) {
	if d.codeless++; line.Endless || notFTP(line.Text) || d.codeless > maxCodeless {
		s.end(RefusedAnswer, "the server's answer is not FTP")
		return
	}
	d.pass(s, line)
}

// Codeless reports whether the server's last line had no code.
func (d *Dialogue) Codeless() bool { return d.codeless > 0 }

// otherProtocols are the beginnings of what servers of other protocols say, and Telnet's options.
var otherProtocols = [][]byte{[]byte("HTTP/"), []byte("SSH-"), {255}}

// clientVerbs are commands that no line for people begins with.
var clientVerbs = []string{"USER", "PASS", "QUIT", "PASV", "EPSV", "PORT", "EPRT", "RETR", "STOR", "NOOP"}

// notFTP reports whether a line without a code is none that an FTP server means for people: another
// protocol's, a client's command, or a code that some clients take for one.
func notFTP(text []byte) bool {
	for _, begin := range otherProtocols {
		if bytes.HasPrefix(text, begin) {
			return true
		}
	}
	if len(text) >= 3 && isDigit(text[0]) && isDigit(text[1]) && isDigit(text[2]) {
		return len(text) == 3 || text[3] == ' ' || text[3] == '-'
	}
	word, _, _ := bytes.Cut(text, []byte{' '})
	return slices.Contains(clientVerbs, string(word))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
