package tlskeys

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"iter"
	"strings"
	"time"

	"ftpgate/internal/core/finding"
)

// certFiles are the files of a certificate and its key, and the keys of the forward that name them.
type certFiles struct {
	certKey, certFile string
	keyKey, keyFile   string // an empty keyFile: the key is in certFile
}

func (w certFiles) files() []string {
	if w.keyFile == "" || w.keyFile == w.certFile {
		return []string{w.certFile}
	}
	return []string{w.certFile, w.keyFile}
}

// read returns the certificate with its chain, its key and its Leaf.
func (w certFiles) read() (*tls.Certificate, *finding.Finding) {
	certText, fault := readFile(w.certKey, w.certFile, maxFile)
	if fault != nil {
		return nil, fault
	}
	keyKey, keyFile, keyText := w.certKey, w.certFile, certText
	if w.keyFile != "" {
		keyKey, keyFile = w.keyKey, w.keyFile
		if keyText, fault = readFile(keyKey, keyFile, maxFile); fault != nil {
			return nil, fault
		}
	}
	if text, remedy := noCertificate(certText); text != "" {
		return nil, newFault(w.certKey, w.certFile+" "+text, remedy)
	}
	if text, remedy := noKey(keyText, w.keyFile == ""); text != "" {
		return nil, newFault(keyKey, keyFile+" "+text, remedy)
	}
	cert, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return nil, w.notAPair(certText, keyText, keyKey, keyFile, err)
	}
	return &cert, nil
}

// notAPair says why a certificate and a key do not belong together.
func (w certFiles) notAPair(certText, keyText []byte, keyKey, keyFile string, err error) *finding.Finding {
	for i, der := range certificates(certText) {
		leaf, parseErr := x509.ParseCertificate(der)
		if parseErr != nil {
			return damaged(w.certKey, w.certFile, i, parseErr)
		}
		if _, keyErr := tls.X509KeyPair(encode("CERTIFICATE", leaf.Raw), keyText); i > 0 && keyErr == nil {
			return newFault(w.certKey,
				fmt.Sprintf("%s: the certificate that belongs to the key is number %d of the file",
					w.certFile, i+1),
				"put it first, and those of the authorities behind it")
		}
	}
	if parses(keyText) {
		return newFault(keyKey,
			fmt.Sprintf("the key in %s does not belong to the certificate in %s", keyFile, w.certFile),
			"name the key that the certificate was made for")
	}
	return newFault(keyKey, fmt.Sprintf("the key in %s cannot be used: %v", keyFile, err),
		"a key is RSA, ECDSA or Ed25519, in PKCS #8, PKCS #1 or SEC 1")
}

// damaged is the fault of the certificate with an index in a file.
func damaged(key, file string, i int, err error) *finding.Finding {
	return newFault(key, fmt.Sprintf("%s: certificate %d of the file is damaged: %v", file, i+1, err),
		"get the file again from the certificate authority")
}

// parses reports whether the first private key of a text can be parsed.
func parses(text []byte) bool {
	for block := range blocks(text) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			_, signs := key.(crypto.Signer)
			return signs
		}
		_, rsaErr := x509.ParsePKCS1PrivateKey(block.Bytes)
		_, ecErr := x509.ParseECPrivateKey(block.Bytes)
		return rsaErr == nil || ecErr == nil
	}
	return false
}

// blocks yields the PEM blocks of a text.
func blocks(text []byte) iter.Seq[*pem.Block] {
	return func(yield func(*pem.Block) bool) {
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if !yield(block) {
				return
			}
		}
	}
}

// certificates returns the certificates of a text, in DER.
func certificates(text []byte) (ders [][]byte) {
	for block := range blocks(text) {
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
	}
	return ders
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// noCertificate says what a text contains instead of a certificate, and the remedy; "" if it contains one.
func noCertificate(text []byte) (what, remedy string) {
	what, remedy = noPEM(text, "openssl x509 -inform der -in FILE -out NEWFILE")
	for block := range blocks(text) {
		switch {
		case block.Type == "CERTIFICATE":
			return "", ""
		case block.Type == "CERTIFICATE REQUEST" || block.Type == "NEW CERTIFICATE REQUEST":
			what, remedy = "holds a request, which an authority has yet to sign",
				"name the certificate that the authority has made of it"
		case block.Type == "TRUSTED CERTIFICATE":
			what, remedy = "holds a certificate in OpenSSL's own form", "openssl x509 -in FILE -out NEWFILE"
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			what, remedy = "holds a private key and no certificate",
				"name the certificate here, and the key in the key beside"
		default:
			what, remedy = fmt.Sprintf("holds %q and no certificate", block.Type),
				"name a file with BEGIN CERTIFICATE in it"
		}
	}
	return what, remedy
}

// noKey says what a text contains instead of a private key without a password, and the remedy; "" if it
// contains one. beside is set if the text is the certificate's file.
func noKey(text []byte, beside bool) (what, remedy string) {
	what, remedy = noPEM(text, "openssl pkey -inform der -in FILE -out NEWFILE")
	for block := range blocks(text) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" ||
			strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return "holds a key that is encrypted with a password",
				"ftpgate cannot ask for it: openssl pkey -in FILE -out NEWFILE, and chmod 600 NEWFILE"
		case block.Type == "OPENSSH PRIVATE KEY":
			return "holds a key of ssh", "name the key that the certificate was made for"
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return "", ""
		case beside:
			what, remedy = "holds no private key, and no file for one is named", "name the key's file, too"
		case block.Type == "CERTIFICATE":
			what, remedy = "holds a certificate and no private key", "name the file of the key"
		default:
			what, remedy = fmt.Sprintf("holds %q and no private key", block.Type),
				"name a file with BEGIN PRIVATE KEY in it"
		}
	}
	return what, remedy
}

// noPEM is noCertificate and noKey for a text without a single block.
func noPEM(text []byte, convert string) (what, remedy string) {
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return "is empty", "name a file in PEM, with a line that begins with -----BEGIN"
	case text[0] == 0x30: // a SEQUENCE of ASN.1
		return "is in DER, not in PEM", convert +
			" (of a .p12 or .pfx: openssl pkcs12 -nodes -in FILE -out NEWFILE)"
	}
	return "holds no PEM", "name a file with a line that begins with -----BEGIN"
}

// readTrust reads the certificates of authorities, servers and clients.
func readTrust(key, path string) (*Trust, *finding.Finding) {
	text, fault := readFile(key, path, maxFile)
	if fault != nil {
		return nil, fault
	}
	if what, remedy := noCertificate(text); what != "" {
		return nil, newFault(key, path+" "+what, remedy)
	}
	var all []*x509.Certificate
	for i, der := range certificates(text) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, damaged(key, path, i, err)
		}
		all = append(all, cert)
	}
	return TrustIn(all...), nil
}

// expiryWarning warns of a certificate that is not valid now, or not for long; nil: it is.
func expiryWarning(leaf *x509.Certificate, now time.Time) *finding.Finding {
	const day = time.DateOnly
	renew := "have it renewed: a file that is replaced is taken up without a restart"
	switch {
	case now.Before(leaf.NotBefore):
		return newWarning("", fmt.Sprintf("is valid only from %s on, and today is %s",
			leaf.NotBefore.Format(day), now.Format(day)), "check this host's clock")
	case now.After(leaf.NotAfter):
		return newWarning("", fmt.Sprintf("expired on %s: peers that verify it will refuse it",
			leaf.NotAfter.Format(day)), renew)
	case leaf.NotAfter.Sub(now) < WarnBefore:
		return newWarning("", fmt.Sprintf("expires on %s, in %d days", leaf.NotAfter.Format(day),
			int(leaf.NotAfter.Sub(now).Hours()/24)), renew)
	}
	return nil
}
