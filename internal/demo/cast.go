package demo

import (
	"net/netip"
	"time"

	"ftpgate/internal/lab"
)

// cast is who plays: where, and with what.
type cast struct {
	listen, server   string // the gateway's and the server's ADDR:PORT
	listen6          string // the gateway's for clients with IPv6
	download, upload []byte // the server's file, and the client's

	quirks            string        // the ADDR:PORT of the server with quirks
	byKernel, byProxy string        // where the gateway has it, with kernel and with proxy tracking
	patience          time.Duration // after which a client without an answer is told to be stalled
}

// labCast plays in the lab.
func labCast() cast {
	at := func(host netip.Addr, port uint16) string { return netip.AddrPortFrom(host, port).String() }
	return cast{
		listen:   at(lab.GatewayLAN4, 2121),
		listen6:  at(lab.GatewayLAN6, 2121),
		server:   at(lab.ServerAddr4, 21),
		quirks:   at(lab.ServerAddr4, 2100),
		byKernel: at(lab.GatewayLAN4, 2122),
		byProxy:  at(lab.GatewayLAN4, 2123),
		patience: time.Second,
		download: content(downloadSeed, downloadSize),
		upload:   content(uploadSeed, uploadSize),
	}
}

// relayCast plays on this machine's loopback, at ports that are free: both servers say where they are
// once they are there, and so the gateway's are drawn late.
func relayCast() cast {
	const anyPort = "127.0.0.1:0"
	return cast{
		server:   anyPort,
		quirks:   anyPort,
		download: content(downloadSeed, downloadSize),
		upload:   content(uploadSeed, uploadSize),
	}
}
