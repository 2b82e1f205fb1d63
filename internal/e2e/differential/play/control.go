package play

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ftpgate/internal/e2e/differential/script"
)

// line reads one line. The error is errTimeout, or errEnd at the end of the connection.
func (e *end) line() (string, error) {
	if err := e.control.SetReadDeadline(time.Now().Add(e.bound)); err != nil {
		return "", err
	}
	line, err := e.lines.ReadBytes('\n')
	if len(line) > 0 {
		e.saw("got %q", e.normalize(string(line)))
		e.trackReply(string(line))
	}
	switch {
	case err == nil:
		return string(line), nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", errTimeout
	case errors.Is(err, io.EOF) && !e.controlBroken:
		e.sawEnd = true
		return "", errEnd{"FIN"}
	case errors.Is(err, io.EOF) || isReset(err):
		e.sawEnd = true
		return "", errEnd{"reset"}
	}
	return "", err
}

// trackReply remembers the code of a reply of several lines until its last line.
func (e *end) trackReply(line string) {
	line = strings.TrimRight(line, "\r\n")
	code := line[:min(3, len(line))]
	switch {
	case e.reply == "" && len(line) > 3 && line[3] == '-':
		e.reply = code
	case e.reply != "" && code == e.reply && (len(line) == 3 || line[3] == ' '):
		e.reply = ""
	}
}

// expect reads a line, which must begin with text.
func (e *end) expect(text string) error {
	line, err := e.line()
	if err != nil {
		return err
	}
	want, err := script.Flat(text, netip.AddrPort{})
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, string(want)) {
		return fmt.Errorf("got %q", line)
	}
	return nil
}

// lineReadable notes whether a line, or the end of the connection, waits to be read.
func (e *end) lineReadable() error {
	yes, err := readable(e.control)
	if yes || e.lines.Buffered() > 0 {
		e.saw("a line is readable")
	} else {
		e.saw("no line is readable")
	}
	return err
}

// readToEnd reads the lines that are left, and the end of the connection.
func (e *end) readToEnd() error {
	for {
		_, err := e.line()
		var ended errEnd
		if errors.As(err, &ended) {
			e.saw("control ends with %s", ended.text)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// The ways to name an address and a port, as lax as servers read them.
var (
	hostPort = regexp.MustCompile(`\d+(, *\d+){5}`)
	eprtArg  = regexp.MustCompile(`\|([12])\|([^|]+)\|(\d+)\|?`)
	epsvArg  = regexp.MustCompile(`\|\|\|(\d+)\|`)
)

// normalize takes what differs between two routes out of a line: the port, and the address where it is that
// of the other end of the control connection. It remembers where the other end listens.
func (e *end) normalize(line string) string {
	verb := strings.ToUpper(line[:min(len(line), 4)])
	var pattern *regexp.Regexp
	var parse func(string) (netip.AddrPort, bool)
	switch {
	case e.side == script.Client && strings.HasPrefix(verb, "227"), e.side == script.Server && verb == "PORT":
		pattern, parse = hostPort, parseHostPort
	case e.side == script.Client && strings.HasPrefix(verb, "229"):
		pattern, parse = epsvArg, e.parseEPSV
	case e.side == script.Server && verb == "EPRT":
		pattern, parse = eprtArg, parseEPRT
	default:
		return line
	}
	at := pattern.FindStringIndex(line)
	if at == nil {
		return line
	}
	found, ok := parse(line[at[0]:at[1]])
	switch {
	case !ok && strings.HasPrefix(verb, "229"): // a number above 65535: which one means nothing
		return line[:at[0]] + "<no port>" + line[at[1]:]
	case !ok:
		return line
	}
	if e.reply == "" || e.reply == verb[:3] || e.side == script.Server {
		e.far = found
	}
	return line[:at[0]] + "<" + e.role(found.Addr()) + ">" + line[at[1]:]
}

// role names an address by what it is to this end.
func (e *end) role(a netip.Addr) string {
	if a == e.peer() {
		return "peer"
	}
	return a.String()
}

// peer is the other end's address, as this end knows it.
func (e *end) peer() netip.Addr { return addrPort(e.control.RemoteAddr()).Addr() }

func parseHostPort(text string) (netip.AddrPort, bool) {
	var n [6]uint64
	for i, field := range strings.Split(text, ",") {
		var err error
		if n[i], err = strconv.ParseUint(strings.TrimSpace(field), 10, 16); err != nil {
			return netip.AddrPort{}, false
		}
	}
	// An octet above 255 names no address; clients take the port alone.
	addr := netip.AddrFrom4([4]byte{byte(n[0]), byte(n[1]), byte(n[2]), byte(n[3])})
	return netip.AddrPortFrom(addr, uint16(n[4]<<8|n[5])), n[4] < 256 && n[5] < 256
}

func parseEPRT(text string) (netip.AddrPort, bool) {
	m := eprtArg.FindStringSubmatch(text)
	addr, err := netip.ParseAddr(m[2])
	port, err2 := strconv.ParseUint(m[3], 10, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), err == nil && err2 == nil
}

func (e *end) parseEPSV(text string) (netip.AddrPort, bool) {
	port, err := strconv.ParseUint(epsvArg.FindStringSubmatch(text)[1], 10, 16)
	return netip.AddrPortFrom(e.peer(), uint16(port)), err == nil
}
