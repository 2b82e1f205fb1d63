package scenario

import (
	"net/netip"
	"time"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/testca"
)

// Setup has the addresses, files and certificates of a scenario. Addresses are ADDR:PORT.
type Setup struct {
	server   string // FTP server
	gateway  string // where the gateway publishes it
	gateway6 string // the same for clients with IPv6

	tlsServer      string // the servers of act 4, one after the other
	quirkServer    string // server with quirks
	kernelToQuirks string // where the gateway publishes it with kernel tracking
	proxyToQuirks  string // and with proxy tracking

	download, upload []byte            // contents of the server's file and of the client's
	large            []byte            // of the server's file for measurements; nil: none are made
	ca               *testca.Authority // issues the certificates of server and gateway; nil: there are none
	replyTimeout     time.Duration     // after which a client counts as stalled
}

// LabSetup returns the setup of the lab. Server and gateway have certificates issued by ca for their
// addresses.
func LabSetup(ca *testca.Authority) Setup {
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
		ca:             ca,
		download:       content(downloadSeed, downloadSize),
		upload:         content(uploadSeed, uploadSize),
	}
}

// LoopbackSetup returns the setup of this machine's loopback. The servers take free ports; RunRelay picks
// free ports for the gateway when the servers are up.
func LoopbackSetup() Setup {
	const anyPort = "127.0.0.1:0"
	return Setup{
		server:      anyPort,
		quirkServer: anyPort,
		download:    content(downloadSeed, downloadSize),
		large:       content(largeSeed, largeSize),
		upload:      content(uploadSeed, uploadSize),
	}
}

// hostOf returns the address of an ADDR:PORT, which is the name in certificates.
func hostOf(address string) string { return netip.MustParseAddrPort(address).Addr().String() }
