package dialogue

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"ftpgate/internal/core/forward"
)

// namedUser is what the argument of USER names at a gateway whose clients choose the server.
type namedUser struct {
	user      string         // for the server
	server    forward.Server // without a host: the client names none
	proxyUser string         // after a space: the gateway's own user; "": none
}

// parseUser reads the argument of USER. Programs with a setting for an FTP proxy write:
//
//	user@host            user@host:port     user@[2001:db8::21]:port
//	user@host port       user@host proxyuser
//
// The last @ counts: a user name may have others. Without an @ the client names no server.
func parseUser(arg []byte) (namedUser, error) {
	text := string(bytes.Trim(arg, " "))
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return namedUser{user: text}, nil
	}
	n := namedUser{user: text[:at]}
	if n.user == "" {
		return namedUser{}, errNoUser
	}
	host, rest, _ := strings.Cut(text[at+1:], " ")
	rest = strings.Trim(rest, " ")
	port, isPort := portNumber(rest)
	server, err := parseServer(host)
	switch {
	case err != nil:
		return namedUser{}, err
	case isPort:
		server.Port = port
	default:
		n.proxyUser = rest
	}
	n.server = server
	return n, nil
}

// parseTarget reads the argument of SITE and OPEN: a host, perhaps with a port after a colon or a space.
func parseTarget(arg []byte) (forward.Server, error) {
	host, rest, two := strings.Cut(string(bytes.Trim(arg, " ")), " ")
	server, err := parseServer(host)
	if err != nil || !two {
		return server, err
	}
	port, ok := portNumber(strings.Trim(rest, " "))
	if !ok {
		return forward.Server{}, errNoServer
	}
	server.Port = port
	return server, nil
}

var (
	errNoUser   = errors.New("no user before the @: want user@host")
	errNoServer = errors.New("this is no server's name: want a host name or an address, and perhaps a port")
)

// parseServer reads a server's name or address. It refuses what only some resolvers take for an address, such
// as 0x7f.1 and 2130706433, and drops the dot that may end a name, so that a name is spelled in one way. The
// error is errNoServer.
func parseServer(s string) (forward.Server, error) {
	server, err := forward.ParseServer(s)
	if err != nil {
		return forward.Server{}, errNoServer
	}
	if _, isAddr := server.Addr(); isAddr {
		return server, nil
	}
	server.Host = strings.ToLower(strings.TrimSuffix(server.Host, "."))
	top := server.Host[strings.LastIndexByte(server.Host, '.')+1:]
	if top == "" || top[0] >= '0' && top[0] <= '9' { // no name's last label begins with a digit
		return forward.Server{}, errNoServer
	}
	return server, nil
}

// portNumber reads a port in digits.
func portNumber(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0 && strings.Trim(s, "0123456789") == ""
}
