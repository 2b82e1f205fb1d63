package scenario

import (
	"context"

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/sessionlog"
)

// Host is a host of the lab, or this machine.
type Host = ftpclient.Host

// Testbed provides the hosts and programs of a scenario: the lab, or loopback.
type Testbed interface {
	ClientHost() Host
	ServerHost() Host
	// StartServer starts an FTP server with Files.
	StartServer(ctx context.Context, address string, mode TLSMode) (Server, error)
	// StartGateway starts `ftpgate forward` with args, in a directory that has the files named below.
	StartGateway(ctx context.Context, args []string) (Gateway, error)
	// Tap starts a wiretap on both sides of the gateway.
	Tap() (Tap, error)
}

// TLSMode says whether a server speaks TLS (RFC 4217).
type TLSMode string

// The TLS modes of a server.
const (
	TLSOff      TLSMode = ""
	TLSOffered  TLSMode = "offered"
	TLSRequired TLSMode = "private" // refuse logins in clear
)

// The files in the directory of a gateway, in PEM: the CA's certificate, and the gateway's own with its key.
const (
	AuthorityFile  = "ca.pem"
	GatewayFile    = "gateway.pem"
	GatewayKeyFile = "gateway.key"
)

// Server is a running server.
type Server struct {
	Log     *sessionlog.ServerLog // its side of every session
	Address string                // its ADDR:PORT
	Stop    func() error          // ends the server, and waits for it
}

// Gateway is a running gateway.
type Gateway struct {
	Stop func() error // ends the gateway, and waits for it
	// Explain returns what `ftpgate explain` prints of a session.
	Explain func(ctx context.Context, session string) (string, error)
}

// Tap stops a wiretap, and returns the packets of the client's side and of the server's side.
type Tap func() (client, server []byte, err error)
