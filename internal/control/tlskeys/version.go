package tlskeys

import (
	"crypto/tls"

	"ftpgate/internal/core/forward"
)

// versionNumbers are the numbers on the wire of the versions of TLS.
var versionNumbers = [...]uint16{forward.TLS10: tls.VersionTLS10, forward.TLS11: tls.VersionTLS11,
	forward.TLS12: tls.VersionTLS12, forward.TLS13: tls.VersionTLS13}

// setMinVersion sets the oldest version that an end may use. With TLS 1.0 and 1.1 it adds the ciphers of most
// devices of that time, which crypto/tls no longer offers by default: RSA key exchange, which has no forward
// secrecy, and 3DES. RC4 stays out (RFC 7465).
func setMinVersion(config *tls.Config, oldest forward.TLSVersion) {
	config.MinVersion = versionNumbers[oldest]
	if !oldest.IsObsolete() {
		return
	}
	for _, suite := range tls.CipherSuites() {
		config.CipherSuites = append(config.CipherSuites, suite.ID)
	}
	config.CipherSuites = append(config.CipherSuites,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
	// The keys of post-quantum key exchange make a ClientHello of more than a kilobyte, which old servers do
	// not read.
	config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
}
