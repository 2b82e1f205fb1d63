package scenario

import (
	"context"

	"ftpgate/internal/try/demo/ftpclient"
	"ftpgate/internal/try/demo/sessionlog"
)

// Host is where a program runs: a host of the lab.
type Host = ftpclient.Host

// Testbed is where the story plays: the lab, or a loopback in a test.
type Testbed interface {
	ClientHost() Host
	ServerHost() Host
	// StartServer starts an FTP server with Files.
	StartServer(ctx context.Context, address string, e TLSMode) (Server, error)
	// StartGateway starts a gateway with the arguments of `ftpgate forward`, in a directory with the
	// authority's certificate and the gateway's own.
	StartGateway(ctx context.Context, args []string) (Gateway, error)
	// Tap begins to read along on both sides of the gateway.
	Tap() (Tap, error)
}

// TLSMode is whether a server speaks TLS (RFC 4217).
type TLSMode string

// The servers that there are.
const (
	TLSOff      TLSMode = ""
	TLSOffered  TLSMode = "offered"
	TLSRequired TLSMode = "private" // and takes nothing in clear
)

// The files in the directory of a gateway, in PEM.
const (
	AuthorityFile  = "ca.pem"
	GatewayFile    = "gateway.pem"
	GatewayKeyFile = "gateway.key"
)

// Server is a running server.
type Server struct {
	Log     *sessionlog.ServerLog // its side of every dialogue
	Address string                // where it is
	Stop    func() error          // ends it, and waits for that
}

// Gateway is a running gateway.
type Gateway struct {
	Stop func() error  // ends it, and waits for that
	Log  func() string // what it has logged; all of it after Stop
}

// Tap ends a wiretap, and returns what went over the wire at the client's side and at the server's.
type Tap func() (client, server []byte, err error)
