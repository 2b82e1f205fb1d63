package scenario

import (
	"net/netip"
	"time"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/testca"
)

// Cast is who plays: where, and with what.
type Cast struct {
	listen, server   string // the gateway's and the server's ADDR:PORT
	listen6          string // the gateway's for clients with IPv6
	download, upload []byte // the server's file, and the client's

	secure            string            // the ADDR:PORT of the servers of act 4, one after the other
	quirks            string            // the ADDR:PORT of the server with quirks
	byKernel, byProxy string            // where the gateway has it, with kernel and with proxy tracking
	authority         *testca.Authority // of the certificates of server and gateway; nil: there are none
	patience          time.Duration     // after which a client without an answer is told to be stalled
}

// InLab plays in the lab, where server and gateway have certificates of a for their addresses.
func InLab(a *testca.Authority) Cast {
	at := func(host netip.Addr, port uint16) string { return netip.AddrPortFrom(host, port).String() }
	return Cast{
		listen:    at(lab.GatewayLAN4, 2121),
		listen6:   at(lab.GatewayLAN6, 2121),
		server:    at(lab.ServerAddr4, 21),
		secure:    at(lab.ServerAddr4, 2101),
		quirks:    at(lab.ServerAddr4, 2100),
		byKernel:  at(lab.GatewayLAN4, 2122),
		byProxy:   at(lab.GatewayLAN4, 2123),
		patience:  time.Second,
		authority: a,
		download:  content(downloadSeed, downloadSize),
		upload:    content(uploadSeed, uploadSize),
	}
}

// OnLoopback plays on this machine's loopback, at ports that are free: both servers say where they are
// once they are there, and so the gateway's are drawn late.
func OnLoopback() Cast {
	const anyPort = "127.0.0.1:0"
	return Cast{
		server:   anyPort,
		quirks:   anyPort,
		download: content(downloadSeed, downloadSize),
		upload:   content(uploadSeed, uploadSize),
	}
}

// addressOf is the address of an ADDR:PORT, which certificates name.
func addressOf(at string) string { return netip.MustParseAddrPort(at).Addr().String() }
