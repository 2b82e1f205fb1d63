package tlskeys

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

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
	name := cmp.Or(f.TLS.ServerName, f.Server.Host)
	s := &serverCert{name: name, insecure: f.TLS.Insecure, trust: k.Trust(f), now: k.now}
	control = &tls.Config{
		ServerName:         strings.TrimSuffix(name, "."),
		InsecureSkipVerify: true, // s verifies
		ClientSessionCache: &tickets{now: k.now},
		VerifyConnection:   s.control,
	}
	setMinVersion(control, f.TLS.ServerMinVersion)
	data = control.Clone()
	data.VerifyConnection = s.data
	data.DynamicRecordSizingDisabled = true
	if n.clientCert != nil {
		own := &sessionCert{pair: n.clientCert, now: k.now}
		control.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return own.control(nil)
		}
		data.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return own.data(nil)
		}
	}
	return control, data, nil
}

// serverCert is the certificate that a server presents in one session.
type serverCert struct {
	name     string // that the certificate must have
	insecure bool   // any will do
	trust    *Trust
	now      func() time.Time
	leaf     atomic.Pointer[x509.Certificate] // of the control connection
}

func (s *serverCert) control(c tls.ConnectionState) error {
	if !s.insecure {
		if err := s.trust.Verify(c.PeerCertificates, s.name, s.now()); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: c.PeerCertificates, Err: err}
		}
	}
	s.leaf.Store(c.PeerCertificates[0])
	return nil
}

// data requires the control connection's certificate, even if nothing else is verified: no other server of
// the same authority may get the files (RFC 4217 section 10.1).
func (s *serverCert) data(c tls.ConnectionState) error {
	if leaf := s.leaf.Load(); leaf == nil || !leaf.Equal(c.PeerCertificates[0]) {
		return &PolicyError{explanation{
			"the server's data connection has another certificate than its control connection",
			"check what answers at the server's passive ports: several servers behind one address " +
				"need one certificate",
		}, verdict.CodeServerDataTLS}
	}
	return nil
}
