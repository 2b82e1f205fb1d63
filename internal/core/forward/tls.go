package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// SelfSigned in place of a certificate's file makes ftpgate create a certificate and keep it.
const SelfSigned = "self-signed"

// TLS is how a forward with tracking proxy handles FTPS (RFC 4217). In the zero value the gateway speaks no
// TLS itself; ServerPorts decides whether a session may be encrypted end to end.
type TLS struct {
	Client                    ClientTLS
	Implicit                  bool     // the client begins with TLS, without AUTH (port 990)
	Cert, Key                 string   // the gateway's certificate and key, PEM; Cert may be SelfSigned
	Names                     []string // that clients may ask for (SNI); see AllowsName
	SessionReuseOptional      bool     // data connections need not resume the control connection's TLS
	CCC                       bool     // the client may leave TLS on its control connection (section 12)
	ClientCloseNotifyOptional bool     // the client's data may end without close_notify
	// whose certificates clients present, a PEM file; empty: clients are not asked for certificates
	ClientCA           string
	ClientAuthOptional bool       // a client without a certificate is let in
	ClientCRL          string     // which of those certificates are revoked, a PEM file; empty: none
	ClientMinVersion   TLSVersion // the oldest that clients may use

	Server                    ServerTLS
	ServerDataClear           bool   // the server's data connections are in clear
	CA                        string // trusted authorities, a PEM file; empty: the system's roots
	ServerName                string // the name in the server's certificate; empty: that of Forward.Server
	ClientCert, ClientKey     string // the client certificate to present to the server, PEM; empty: none
	Insecure                  bool   // the server's certificate is not verified
	ServerCloseNotifyOptional bool   // the server's data may end without close_notify
	ServerMinVersion          TLSVersion
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

var clientTLSNames = []string{
	ClientTLSOff: "off", ClientTLSOptional: "optional", ClientTLSRequired: "required",
}

func (ClientTLS) words() []string { return clientTLSNames }

// String returns the word for c.
func (c ClientTLS) String() string { return wordOf(c) }

// ServerTLS is whether the gateway speaks TLS with the server.
type ServerTLS uint8

const (
	// ServerTLSOff speaks none with the server.
	ServerTLSOff ServerTLS = iota
	// ServerTLSRequired begins with AUTH TLS, and gives up if the server does not accept it.
	ServerTLSRequired
	// ServerTLSImplicit begins with TLS, without AUTH (port 990).
	ServerTLSImplicit
)

var serverTLSNames = []string{
	ServerTLSOff: "off", ServerTLSRequired: "required", ServerTLSImplicit: "implicit",
}

func (ServerTLS) words() []string { return serverTLSNames }

// String returns the word for s.
func (s ServerTLS) String() string { return wordOf(s) }

// TLSVersion is a version of TLS. The zero value is the oldest one that is safe (RFC 8996, RFC 9325).
type TLSVersion uint8

const (
	// TLS12 is RFC 5246.
	TLS12 TLSVersion = iota
	// TLS10 is RFC 2246, for old devices.
	TLS10
	// TLS11 is RFC 4346, for old devices.
	TLS11
	// TLS13 is RFC 8446.
	TLS13
)

var tlsVersionNames = []string{TLS12: "1.2", TLS10: "1.0", TLS11: "1.1", TLS13: "1.3"}

func (TLSVersion) words() []string { return tlsVersionNames }

// String returns the word for v.
func (v TLSVersion) String() string { return wordOf(v) }

// IsObsolete reports whether v is older than what is safe.
func (v TLSVersion) IsObsolete() bool { return v == TLS10 || v == TLS11 }

// PassesThrough reports whether sessions of the forward may be encrypted end to end. The gateway cannot read
// them, so it must know the server's passive ports.
func (f Forward) PassesThrough() bool {
	return f.Tracking == TrackingProxy && f.TLS.Client == ClientTLSOff && f.TLS.Server == ServerTLSOff &&
		!f.ServerPorts.IsEmpty()
}

// encryptsData reports whether the gateway itself speaks TLS on data connections of the forward: always,
// or if the client asks for it.
func (f Forward) encryptsData() (always, mayBe bool) {
	server := f.TLS.Server != ServerTLSOff && !f.TLS.ServerDataClear
	return server || f.TLS.Client == ClientTLSRequired, f.TLS.Client != ClientTLSOff
}

// ClientSide returns the part of t for clients.
func (t TLS) ClientSide() TLS {
	return TLS{
		Client: t.Client, Implicit: t.Implicit, Cert: t.Cert, Key: t.Key, CCC: t.CCC,
		SessionReuseOptional:      t.SessionReuseOptional,
		ClientCloseNotifyOptional: t.ClientCloseNotifyOptional,
		ClientCA:                  t.ClientCA, ClientAuthOptional: t.ClientAuthOptional,
		ClientCRL:        t.ClientCRL,
		ClientMinVersion: t.ClientMinVersion,
	}
}

// ServerSide returns the part of t for the server.
func (t TLS) ServerSide() TLS {
	s := t
	s.Client, s.Implicit, s.Cert, s.Key, s.CCC = ClientTLSOff, false, "", "", false
	s.SessionReuseOptional, s.ClientCloseNotifyOptional = false, false
	s.ClientCA, s.ClientAuthOptional, s.ClientCRL, s.ClientMinVersion = "", false, "", TLS12
	return s
}

// AgreesOnData reports whether data connections with the server have the forward's level after an answer to
// PROT. A server with implicit TLS encrypts data without PROT, and need not know it: some answer with 550.
// With AUTH, data is in clear before PROT (RFC 4217 section 9). A server that refuses the level itself sends
// 534 or 536.
func (t TLS) AgreesOnData(code int) bool {
	switch {
	case code/100 == 2:
		return true
	case code == 534, code == 536:
		return false
	case t.ServerDataClear:
		return t.Server == ServerTLSRequired && code/10 == 50
	}
	return t.Server == ServerTLSImplicit && code/100 == 5
}

// CheckTLSName returns an error unless a name is a host name, or "*." and a host name for the hosts directly
// below it.
func CheckTLSName(name string) error {
	host := strings.TrimPrefix(name, "*.")
	if _, err := netip.ParseAddr(host); err == nil || !isHostName(host) {
		return fmt.Errorf("tls.names: %q is no host name: clients that dial an address name none, "+
			"and are accepted", name)
	}
	return nil
}

// AllowsName reports whether a client may ask for a host by its name (RFC 6066 section 3); "": it names none.
// Names are in lower case, and "*." matches any one label. Without names the client may ask for all.
func (t TLS) AllowsName(name string) bool {
	if len(t.Names) == 0 || name == "" {
		return true
	}
	name = strings.ToLower(name)
	_, above, _ := strings.Cut(name, ".")
	return slices.Contains(t.Names, name) || above != "" && slices.Contains(t.Names, "*."+above)
}
