package dialogue

import (
	"bytes"
	"slices"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// refuseForeign ends a session whose client speaks another protocol; false: the line may be FTP. An attacker
// may make a browser send FTP commands in the text of its requests (ALPACA, NAT slipstreaming). The first
// line of such a request shows it, and so does the header Host.
func (d *Dialogue) refuseForeign(s *Step, line ftp.ClientLine) bool {
	switch {
	case isHTTP(line):
		s.end(verdict.RefusedLine, "this is FTP, and the client speaks HTTP")
		s.Refusal.Code = verdict.CodeClientSpeaksHTTP
	case isSSH(line.Text):
		s.end(verdict.RefusedLine, "this is FTP, and the client speaks SSH")
		s.Refusal.Code = verdict.CodeClientSpeaksSSH
	case isProxyHeader(line.Command):
		s.end(verdict.RefusedProxyHeader, UnexpectedHeader)
		s.Refusal.Code = verdict.CodeUnexpectedProxyHeader
	default:
		return false
	}
	return true
}

// UnexpectedHeader is the reason for a client that begins with a PROXY protocol header.
const UnexpectedHeader = "this is FTP, and the client sends a PROXY protocol header"

// isProxyHeader reports whether a command is a header of the PROXY protocol, version 1. One of version 2 is
// two blank lines, and then one with a NUL.
func isProxyHeader(c ftp.Command) bool {
	protocol, _, _ := bytes.Cut(c.Arg, []byte(" "))
	return c.Verb == "PROXY" && slices.Contains([]string{"TCP4", "TCP6", "UNKNOWN"}, string(protocol))
}

// httpMethods are the words with which requests begin (RFC 9110 section 9, RFC 5789, RFC 4918 section 9.1),
// and what HTTP/2 begins with (RFC 9113 section 3.4). None is a command of FTP.
var httpMethods = []string{
	"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PROPFIND", "PUT", "TRACE",
}

// isHTTP reports whether a line is the first one of an HTTP request (RFC 9112 section 3), or its header Host,
// which every browser sends. FTP's HOST has no colon. GET alone is allowed: a person may have typed it.
func isHTTP(line ftp.ClientLine) bool {
	c := line.Command
	if c.Verb == "" {
		const host = "Host:"
		return len(line.Text) >= len(host) && bytes.EqualFold(line.Text[:len(host)], []byte(host))
	}
	version := c.Arg[bytes.LastIndexByte(c.Arg, ' ')+1:]
	rest, found := bytes.CutPrefix(version, []byte("HTTP/"))
	return found && len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9' && slices.Contains(httpMethods, c.Verb)
}

// isSSH reports whether a line is the first one of an SSH client (RFC 4253 section 4.2).
func isSSH(text []byte) bool {
	rest, found := bytes.CutPrefix(text, []byte("SSH-"))
	return found && len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9'
}
