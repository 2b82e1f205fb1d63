package scenario

import (
	"net/netip"
	"time"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/testca"
)

// Setup is who plays: where, and with what.
type Setup struct {
	gateway, server  string // the gateway's and the server's ADDR:PORT
	gateway6         string // the gateway's for clients with IPv6
	download, upload []byte // the server's file, and the client's

	tlsServer                     string            // the ADDR:PORT of the servers of act 4, one after the other
	quirkServer                   string            // the ADDR:PORT of the server with quirks
	kernelToQuirks, proxyToQuirks string            // where the gateway has it, with kernel and with proxy tracking
	ca                            *testca.Authority // of the certificates of server and gateway; nil: there are none
	replyTimeout                  time.Duration     // after which a client without an answer is told to be stalled
}

// LabSetup plays in the lab, where server and gateway have certificates of a for their addresses.
func LabSetup(a *testca.Authority) Setup {
	at := func(host netip.Addr, port uint16) string { return netip.AddrPortFrom(host, port).String() }
	return Setup{
		gateway:        at(lab.GatewayLAN4, 2121),
		gateway6:       at(lab.GatewayLAN6, 2121),
		server:         at(lab.ServerAddr4, 21),
		tlsServer:      at(lab.ServerAddr4, 2101),
		quirkServer:    at(lab.ServerAddr4, 2100),
		kernelToQuirks: at(lab.GatewayLAN4, 2122),
		proxyToQuirks:  at(lab.GatewayLAN4, 2123),
		replyTimeout:   time.Second,
		ca:             a,
		download:       content(downloadSeed, downloadSize),
		upload:         content(uploadSeed, uploadSize),
	}
}

// LoopbackSetup plays on this machine's loopback, at ports that are free: both servers say where they are
// once they are there, and so the gateway's are drawn late.
func LoopbackSetup() Setup {
	const anyPort = "127.0.0.1:0"
	return Setup{
		server:      anyPort,
		quirkServer: anyPort,
		download:    content(downloadSeed, downloadSize),
		upload:      content(uploadSeed, uploadSize),
	}
}

// hostOf is the address of an ADDR:PORT, which certificates name.
func hostOf(at string) string { return netip.MustParseAddrPort(at).Addr().String() }
