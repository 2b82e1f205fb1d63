package testca

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// Revoke returns p's revocation list of these certificates, in PEM. It is valid from an hour ago until next.
// p must have been made ForSigning.
func (p Pair) Revoke(next time.Time, revoked ...*x509.Certificate) ([]byte, error) {
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), NextUpdate: next,
		ThisUpdate: time.Now().Add(-time.Hour)}
	if next.Before(time.Now()) {
		list.ThisUpdate = next.Add(-time.Hour)
	}
	for _, cert := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, p.Cert, p.Key)
	if err != nil {
		return nil, fmt.Errorf("testca: revocation list: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}
