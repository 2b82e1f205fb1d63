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

// ForClient returns the TLS, as the server, of one session with a client: of its control connection and of
// its data connections. The session tickets that either gives out are good for these two only. Unless the
// forward says otherwise, a data connection that does not resume a session is refused with a *PolicyError.
// Both show the certificate that the control connection showed, whatever happens to the files.
//
// To be called for each session, when its TLS begins or before: what it returns stays good when the forward
// is loaded anew or goes. The error says that no Load has brought a certificate for the forward.
func (k *Keys) ForClient(f forward.Forward) (control, data *tls.Config, err error) {
	n := k.state.Load().forwards[f.Name]
	if n == nil || n.cert == nil {
		return nil, nil, fmt.Errorf("secure: TLS with a client of forward %q: no certificate is loaded", f.Name)
	}
	s := &shown{pair: n.cert, now: k.now}
	control = &tls.Config{MinVersion: minVersion, GetCertificate: s.control}
	var ticketKey [32]byte
	rand.Read(ticketKey[:])
	control.SetSessionTicketKeys([][32]byte{ticketKey})
	data = control.Clone()
	data.GetCertificate = s.data
	data.DynamicRecordSizingDisabled = true // whole files, not answers that somebody waits for
	if !f.TLS.SessionReuseOptional {
		data.VerifyConnection = resumed
		data.WrapSession = func(c tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
			if !c.DidResume {
				return worthless(), nil
			}
			return data.EncryptTicket(c, session)
		}
	}
	return control, data, nil
}

// worthless returns a ticket that nobody can use. In TLS 1.3 crypto/tls sends the ticket of a connection
// before VerifyConnection is asked: with a good one, who is refused now would resume the next time.
func worthless() []byte {
	ticket := make([]byte, 32)
	rand.Read(ticket)
	return ticket
}

// shown is the certificate that one session shows.
type shown struct {
	pair *pair
	now  func() time.Time
	cert atomic.Pointer[tls.Certificate] // of the control connection
}

func (s *shown) control(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := s.pair.get(s.now())
	s.cert.Store(cert)
	return cert, nil
}

func (s *shown) data(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := s.cert.Load(); cert != nil {
		return cert, nil
	}
	return s.pair.get(s.now()), nil
}

// forControl and forData are control and data of the TLS client, whom the server asks for a certificate.
func (s *shown) forControl(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.control(nil)
}

func (s *shown) forData(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.data(nil)
}

// resumed refuses a data connection that does not come from the client of the control connection: only
// that one has a ticket that this session's keys open (RFC 4217 section 10.2 leaves it to the server).
func resumed(c tls.ConnectionState) error {
	if c.DidResume {
		return nil
	}
	e := &PolicyError{
		plain:  "the data connection does not resume the TLS session of the control connection",
		remedy: "use a client that resumes sessions; session_reuse = false lets such clients in",
	}
	if c.Version == tls.VersionTLS12 { // crypto/tls has no other way in TLS 1.2
		e.remedy = "with TLS 1.2 a client can resume only by tickets (RFC 5077), which curl does not ask for: let it speak TLS 1.3; " +
			"session_reuse = false lets such clients in"
	}
	return e
}

// ForServer returns the TLS, as the client, of one session with a server: of its control connection and of
// its data connections. These resume the session of the control connection where the server lets them,
// and are refused with a *PolicyError where the server shows another certificate than it did there.
//
// To be called as ForClient is. The error says that the forward has not been loaded.
func (k *Keys) ForServer(f forward.Forward) (control, data *tls.Config, err error) {
	n := k.state.Load().forwards[f.Name]
	if n == nil {
		return nil, nil, fmt.Errorf("secure: TLS with the server of forward %q: the forward is not loaded", f.Name)
	}
	name := f.TLS.ServerName
	if name == "" {
		name = f.Server.Host
	}
	s := &seen{}
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
	if n.shown != nil {
		own := &shown{pair: n.shown, now: k.now}
		control.GetClientCertificate, data.GetClientCertificate = own.forControl, own.forData
	}
	return control, data, nil
}

// seen is the certificate that a server has shown in one session.
type seen struct {
	leaf atomic.Pointer[x509.Certificate] // of the control connection
}

func (s *seen) control(c tls.ConnectionState) error {
	s.leaf.Store(c.PeerCertificates[0])
	return nil
}

// data holds the data connection to the control connection's certificate, also where nothing else is
// verified: a server that could be any other one of its authority may not get the files (RFC 4217 section 10.1).
func (s *seen) data(c tls.ConnectionState) error {
	if leaf := s.leaf.Load(); leaf == nil || !leaf.Equal(c.PeerCertificates[0]) {
		return &PolicyError{
			plain:  "the server's data connection has another certificate than its control connection",
			remedy: "look what answers at the server's passive ports: several servers behind one address need one certificate",
		}
	}
	return nil
}
