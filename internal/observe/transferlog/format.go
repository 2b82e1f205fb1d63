package transferlog

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ftpgate/internal/observe/sessions"
)

// jsonLine appends a transfer as a line of JSON with the fields of sessions.Transfer. Each byte of a name
// that is not UTF-8 becomes U+FFFD.
func jsonLine(b []byte, t *sessions.Transfer) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false) // people read it, not browsers
	if err := e.Encode(t); err != nil {
		return b, err
	}
	return escapeControls(buf.Bytes()), nil
}

// escapeControls escapes characters that encoding/json leaves unchanged but that control a terminal: DEL and
// U+0080 to U+009F, which are 0xc2 and a byte below 0xa0 in UTF-8. In JSON they occur only within strings.
func escapeControls(line []byte) []byte {
	if bytes.IndexByte(line, 0x7f) < 0 && bytes.IndexByte(line, 0xc2) < 0 {
		return line
	}
	escaped := make([]byte, 0, len(line)+64)
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c == 0xc2 && line[i+1] < 0xa0 {
			i++
			c = line[i]
		} else if c != 0x7f {
			escaped = append(escaped, c)
			continue
		}
		escaped = strconv.AppendUint(append(escaped, `\u00`...), uint64(c), 16)
	}
	return escaped
}

// noValue is written for a field without a value: readers identify fields by their position.
const noValue = "-"

// xferlogLine appends a transfer in the format of xferlog(5), as wu-ftpd, proftpd and vsftpd write it: 14
// fields. The first one, the local time, contains blanks.
//
//	current-time  transfer-time  remote-host  file-size  filename  transfer-type  special-action-flag
//	direction  access-mode  username  service-name  authentication-method  authenticated-user-id
//	completion-status
//
// It has only files: no listings, like vsftpd's, and no transfers of unknown direction. The file name is the
// one that the client sent; it may be relative to a directory that ftpgate does not know.
func xferlogLine(b []byte, t *sessions.Transfer) ([]byte, error) {
	var direction byte
	switch {
	case isListing(t.Verb):
		return b, nil
	case t.Direction == sessions.Download:
		direction = 'o' // outgoing from the server
	case t.Direction == sessions.Upload:
		direction = 'i' // incoming
	default:
		return b, nil
	}
	b = t.Ended.Local().AppendFormat(b, time.ANSIC)
	b = strconv.AppendInt(append(b, ' '), seconds(t.Ended.Sub(t.Began)), 10)
	b = appendField(append(b, ' '), host(t.Client))
	b = strconv.AppendInt(append(b, ' '), t.Bytes, 10)
	b = appendField(append(b, ' '), t.File)
	b = append(b, ' ', typeLetter(t.Type), ' ', '_', ' ', direction, ' ', accessMode(t.User), ' ')
	b = appendField(b, t.User)
	b = append(b, " ftp 0 * "...) // without authentication (RFC 931) of the user
	if t.Complete {
		return append(b, "c\n"...), nil
	}
	return append(b, "i\n"...), nil
}

// isListing reports whether verb transfers a listing and not a file (RFC 959 section 4.1.3, RFC 3659 section
// 7).
func isListing(verb string) bool {
	switch strings.ToUpper(verb) {
	case "LIST", "NLST", "MLSD":
		return true
	}
	return false
}

// seconds returns at least one, like FTP servers: readers divide by it.
func seconds(d time.Duration) int64 {
	return max(1, int64(d.Round(time.Second)/time.Second))
}

func host(a netip.Addr) string {
	if !a.IsValid() {
		return noValue
	}
	return a.Unmap().String()
}

// typeLetter returns 'b' for binary and 'a' for ASCII, the default type (RFC 959 section 3.1.1.1).
func typeLetter(representation string) byte {
	if representation == "" || strings.EqualFold(representation[:1], "A") {
		return 'a'
	}
	return 'b'
}

// accessMode returns 'a' for anonymous (RFC 1635), and 'r' for a user with an account.
func accessMode(user string) byte {
	if strings.EqualFold(user, "anonymous") || strings.EqualFold(user, "ftp") {
		return 'a'
	}
	return 'r'
}

// appendField appends any text as one field. Each blank, control character, other invisible character and
// byte that is not UTF-8 becomes an underscore.
func appendField(b []byte, s string) []byte {
	if s == "" {
		return append(b, noValue...)
	}
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1, r == ' ', !unicode.IsPrint(r):
			b = append(b, '_')
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return b
}
