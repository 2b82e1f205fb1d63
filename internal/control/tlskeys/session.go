package tlskeys

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/forward"
)

// minVersion is the oldest TLS that the gateway speaks, on either leg (RFC 9325 section 3.1.1).
const minVersion = tls.VersionTLS12

// ForClient returns the TLS configurations, as the TLS server, of one session with a client: for its control
// connection and for its data connections. Session tickets are valid within this session only. Unless the
// forward says otherwise, a data connection that does not resume a session is refused with a *PolicyError.
// Data connections present the same certificate as the control connection, whatever happens to the files.
//
// Call it once a session, before its TLS begins. The configurations stay valid when the forward is loaded
// again or removed. It fails if no Load has read a certificate for the forward.
func (k *Keys) ForClient(f forward.Forward) (control, data *tls.Config, err error) {
	n := k.state.Load().forwards[f.Name]
	if n == nil || n.cert == nil {
		return nil, nil, fmt.Errorf("tlskeys: TLS with a client of forward %q: no certificate is loaded",
			f.Name)
	}
	s := &sessionCert{pair: n.cert, now: k.now}
	control = &tls.Config{MinVersion: minVersion, GetCertificate: s.control}
	var ticketKey [32]byte
	rand.Read(ticketKey[:])
	control.SetSessionTicketKeys([][32]byte{ticketKey})
	data = control.Clone()
	data.GetCertificate = s.data
	data.DynamicRecordSizingDisabled = true // for bulk data, not for short answers
	if !f.TLS.SessionReuseOptional {
		data.VerifyConnection = requireResumption
		data.WrapSession = func(c tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
			if !c.DidResume {
				return uselessTicket(), nil
			}
			return data.EncryptTicket(c, session)
		}
	}
	return control, data, nil
}

// uselessTicket returns a ticket that nobody can use. In TLS 1.3 crypto/tls sends the ticket before it calls
// VerifyConnection: with a valid one, a client that is refused now would resume the next time.
func uselessTicket() []byte {
	ticket := make([]byte, 32)
	rand.Read(ticket)
	return ticket
}

// sessionCert is the certificate that one session presents.
type sessionCert struct {
	pair *pair
	now  func() time.Time
	cert atomic.Pointer[tls.Certificate] // of the control connection
}

func (s *sessionCert) control(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := s.pair.get(s.now())
	s.cert.Store(cert)
	return cert, nil
}

func (s *sessionCert) data(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := s.cert.Load(); cert != nil {
		return cert, nil
	}
	return s.pair.get(s.now()), nil
}

// forControl and forData are control and data for a TLS client that the server asks for a certificate.
func (s *sessionCert) forControl(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.control(nil)
}

func (s *sessionCert) forData(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.data(nil)
}

// requireResumption refuses a data connection that may not come from the client of the control connection:
// only that client has a ticket for this session's keys (RFC 4217 section 10.2 leaves the choice to the
// server).
func requireResumption(c tls.ConnectionState) error {
	if c.DidResume {
		return nil
	}
	e := &PolicyError{
		plain:  "the data connection does not resume the TLS session of the control connection",
		remedy: "use a client that resumes sessions; session_reuse = false lets such clients in",
	}
	if c.Version == tls.VersionTLS12 { // crypto/tls supports nothing else in TLS 1.2
		e.remedy = "with TLS 1.2 a client can resume only by tickets (RFC 5077), which curl does not ask " +
			"for: have it use TLS 1.3; " +
			"session_reuse = false lets such clients in"
	}
	return e
}

// ForServer returns the TLS configurations, as the TLS client, of one session with a server: for its control
// connection and for its data connections. Data connections resume the control connection's session if the
// server lets them, and fail with a *PolicyError if the server presents another certificate than it did
// there.
//
// Call it as ForClient. It fails if the forward has not been loaded.
func (k *Keys) ForServer(f forward.Forward) (control, data *tls.Config, err error) {
	n := k.state.Load().forwards[f.Name]
	if n == nil {
		return nil, nil, fmt.Errorf("tlskeys: TLS with the server of forward %q: the forward is not loaded",
			f.Name)
	}
	name := f.TLS.ServerName
	if name == "" {
		name = f.Server.Host
	}
	s := &serverCert{}
	control = &tls.Config{
		MinVersion:         minVersion,
		ServerName:         strings.TrimSuffix(name, "."), // certificates never have that dot
		InsecureSkipVerify: f.TLS.Insecure,
		ClientSessionCache: &tickets{now: k.now},
		VerifyConnection:   s.control,
	}
	if n.ca != nil {
		control.RootCAs = n.ca.get(k.now())
	}
	data = control.Clone()
	data.VerifyConnection = s.data
	data.DynamicRecordSizingDisabled = true
	if n.clientCert != nil {
		own := &sessionCert{pair: n.clientCert, now: k.now}
		control.GetClientCertificate, data.GetClientCertificate = own.forControl, own.forData
	}
	return control, data, nil
}

// serverCert is the certificate that a server presented in one session.
type serverCert struct {
	leaf atomic.Pointer[x509.Certificate] // of the control connection
}

func (s *serverCert) control(c tls.ConnectionState) error {
	s.leaf.Store(c.PeerCertificates[0])
	return nil
}

// data requires the control connection's certificate, even if nothing else is verified: no other server of
// the same authority may get the files (RFC 4217 section 10.1).
func (s *serverCert) data(c tls.ConnectionState) error {
	if leaf := s.leaf.Load(); leaf == nil || !leaf.Equal(c.PeerCertificates[0]) {
		return &PolicyError{
			plain: "the server's data connection has another certificate than its control connection",
			remedy: "check what answers at the server's passive ports: several servers behind one address " +
				"need one certificate",
		}
	}
	return nil
}
