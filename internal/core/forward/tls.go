package forward

// SelfSigned in place of a certificate's file has ftpgate make one and keep it.
const SelfSigned = "self-signed"

// TLS is what a forward with tracking proxy does about FTPS (RFC 4217). In the zero value the gateway
// speaks no TLS itself; whether a session may be encrypted from end to end is ServerPorts' to say.
type TLS struct {
	Client                    ClientTLS
	Implicit                  bool   // the client begins with TLS, without AUTH (port 990)
	Cert, Key                 string // the gateway's certificate and its key, files in PEM; Cert may be SelfSigned
	SessionReuseOptional      bool   // the client's data connections need not resume its control connection's session
	CCC                       bool   // the client may end the encryption of its control connection (RFC 4217 section 12)
	ClientCloseNotifyOptional bool   // the client's data may end without close_notify

	Server                    ServerTLS
	ServerDataClear           bool   // the server's data connections are in clear
	CA                        string // whom to trust, a file in PEM; empty: the system's roots
	ServerName                string // what the server's certificate must name; empty: the host of Forward.Server
	ClientCert, ClientKey     string // what the gateway shows the server if asked, files in PEM; empty: nothing
	Insecure                  bool   // the server's certificate is not verified
	ServerCloseNotifyOptional bool   // the server's data may end without close_notify
}

// ClientTLS is whether the gateway speaks TLS with clients.
type ClientTLS uint8

const (
	// ClientTLSOff speaks none with clients: AUTH is passed through, or refused.
	ClientTLSOff ClientTLS = iota
	// ClientTLSOptional leaves it to the client.
	ClientTLSOptional
	// ClientTLSRequired refuses logins and data in clear.
	ClientTLSRequired
)

var clientTLSNames = []string{ClientTLSOff: "off", ClientTLSOptional: "optional", ClientTLSRequired: "required"}

// String returns the word that ParseClientTLS reads.
func (c ClientTLS) String() string { return enumWord(clientTLSNames, c, "ClientTLS") }

// ParseClientTLS reads "off", "optional" or "required".
func ParseClientTLS(s string) (ClientTLS, error) {
	return parseEnum[ClientTLS](clientTLSNames, s, "tls.client")
}

// ServerTLS is whether the gateway speaks TLS with the server.
type ServerTLS uint8

const (
	// ServerTLSOff speaks none with the server.
	ServerTLSOff ServerTLS = iota
	// ServerTLSRequired begins with AUTH TLS, and gives up where the server does not take it.
	ServerTLSRequired
	// ServerTLSImplicit begins with TLS, without AUTH (port 990).
	ServerTLSImplicit
)

var serverTLSNames = []string{ServerTLSOff: "off", ServerTLSRequired: "required", ServerTLSImplicit: "implicit"}

// String returns the word that ParseServerTLS reads.
func (s ServerTLS) String() string { return enumWord(serverTLSNames, s, "ServerTLS") }

// ParseServerTLS reads "off", "required" or "implicit".
func ParseServerTLS(s string) (ServerTLS, error) {
	return parseEnum[ServerTLS](serverTLSNames, s, "tls.server")
}

// PassesThrough tells whether sessions of the forward may be encrypted from end to end: nobody reads
// them, and so the server's passive ports must be known.
func (f Forward) PassesThrough() bool {
	return f.Tracking == TrackingProxy && f.TLS.Client == ClientTLSOff && f.TLS.Server == ServerTLSOff && !f.ServerPorts.IsEmpty()
}

// MaxRelayedPorts is how many ports a passage may have that the relay carries: each takes a descriptor
// while any client has it.
const MaxRelayedPorts = 1024

// EncryptsData tells whether the gateway itself speaks TLS on data connections of the forward: always, or where
// the client asks for it.
func (f Forward) EncryptsData() (always, mayBe bool) {
	server := f.TLS.Server != ServerTLSOff && !f.TLS.ServerDataClear
	return server || f.TLS.Client == ClientTLSRequired, f.TLS.Client != ClientTLSOff
}
