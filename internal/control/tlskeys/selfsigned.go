package tlskeys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

const (
	// selfSignedLife is how long a self-signed certificate is valid.
	selfSignedLife = 365 * 24 * time.Hour
	// clockSkew is how long before it was made it is valid, because clocks differ.
	clockSkew = time.Hour
)

// selfSigned is a certificate that the gateway signs itself, for one forward.
type selfSigned struct {
	forward string
	file    string // certificate and key
	names   []string
	addrs   []netip.Addr
}

// newSelfSigned returns the certificate of a forward: its file, and the names and addresses that it must
// cover.
func newSelfSigned(dir string, f forward.Forward, gateway []netip.Addr) (*selfSigned, *finding.Finding) {
	if dir == "" {
		return nil, newFault("tls.cert", "there is no directory to keep a self-signed certificate in",
			"set STATE_DIRECTORY or HOME")
	}
	o := &selfSigned{forward: f.Name, file: filepath.Join(dir, fileName(f.Name)+".pem"),
		names: []string{"localhost"}, addrs: []netip.Addr{netip.IPv6Loopback(),
			netip.AddrFrom4([4]byte{127, 0, 0, 1})}}
	if host, err := os.Hostname(); err == nil {
		o.add(host)
	}
	if f.Listen.Addr.IsValid() {
		gateway = []netip.Addr{f.Listen.Addr}
	}
	for _, addr := range gateway {
		o.add(addr.WithZone("").Unmap().String())
	}
	for _, a := range f.Advertise {
		o.add(a.Host)
	}
	return o, nil
}

// add adds a name or an address, once.
func (o *selfSigned) add(host string) {
	if addr, err := netip.ParseAddr(host); err == nil {
		if !slices.Contains(o.addrs, addr) {
			o.addrs = append(o.addrs, addr)
		}
		return
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !slices.Contains(o.names, host) && strings.Trim(host,
		"abcdefghijklmnopqrstuvwxyz0123456789-._") == "" && host != "" {
		o.names = append(o.names, host)
	}
}

// fileName makes a file name of a forward's name. It replaces special characters, and adds a digest that
// keeps such names apart.
func fileName(forward string) string {
	plain := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '_'
	}, forward)
	if plain == forward && plain != "" {
		return plain
	}
	digest := sha256.Sum256([]byte(forward))
	return plain + "." + hex.EncodeToString(digest[:6])
}

// publicFile is the file with the certificate without its key, for clients.
func (o *selfSigned) publicFile() string { return strings.TrimSuffix(o.file, ".pem") + ".crt" }

// prepare makes the certificate, unless the stored one covers all names and addresses and is valid for long.
func (o *selfSigned) prepare(now time.Time) *finding.Finding {
	cert := o.stored(now)
	if cert == nil || !o.covers(cert.Leaf) {
		return o.renew(now)
	}
	return o.publish(cert.Leaf.Raw)
}

// renewIfEnding is prepare for a certificate that is in use. It ignores the names: another process with a
// forward of the same name may need others, and the two would replace it forever.
func (o *selfSigned) renewIfEnding(now time.Time) *finding.Finding {
	if o.stored(now) == nil {
		return o.renew(now)
	}
	return nil
}

// stored returns the certificate on disk, or nil if a new one is due.
func (o *selfSigned) stored(now time.Time) *tls.Certificate {
	cert, fault := certFiles{certFile: o.file}.read()
	if fault != nil || expiryWarning(cert.Leaf, now) != nil {
		return nil
	}
	return cert
}

func (o *selfSigned) covers(leaf *x509.Certificate) bool {
	for _, name := range o.names {
		if !slices.Contains(leaf.DNSNames, name) {
			return false
		}
	}
	for _, addr := range o.addrs {
		if !slices.ContainsFunc(leaf.IPAddresses, net.IP(addr.AsSlice()).Equal) {
			return false
		}
	}
	return true
}

// renew makes the certificate and its key.
func (o *selfSigned) renew(now time.Time) *finding.Finding {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return o.fault(err)
	}
	// It is its own authority because clients' TLS libraries trust no other self-signed certificate (OpenSSL
	// before 3.0 wants KeyUsageCertSign, and RFC 5280 section 4.2.1.9 then wants CA).
	template := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{"ftpgate"}, CommonName: o.forward},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(selfSignedLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		DNSNames: o.names,
	}
	for _, addr := range o.addrs {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return o.fault(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return o.fault(err)
	}
	if err := os.MkdirAll(filepath.Dir(o.file), 0o700); err != nil {
		return o.fault(err)
	}
	if err := replace(o.file, slices.Concat(encode("CERTIFICATE", der), encode("PRIVATE KEY", secret)),
		0o600); err != nil {
		return o.fault(err)
	}
	return o.publish(der)
}

// publish writes the file for clients, unless it holds this certificate.
func (o *selfSigned) publish(der []byte) *finding.Finding {
	text := encode("CERTIFICATE", der)
	if old, err := os.ReadFile(o.publicFile()); err == nil && slices.Equal(old, text) {
		return nil
	}
	if err := replace(o.publicFile(), text, 0o644); err != nil {
		return o.fault(err)
	}
	return nil
}

func (o *selfSigned) fault(err error) *finding.Finding {
	return newFault("tls.cert", fmt.Sprintf("a self-signed certificate cannot be kept: %v", err),
		fmt.Sprintf("let %s write to %s, or name the files of a certificate and its key", whoReads(),
			filepath.Dir(o.file)))
}

// replace writes the whole file or nothing, even if the power fails.
func replace(path string, data []byte, mode os.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // fails after the rename
	_, err = file.Write(data)
	for _, then := range []func() error{func() error { return file.Chmod(mode) }, file.Sync} {
		if err == nil {
			err = then()
		}
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}
