package daemon

import (
	"net/netip"

	"ftpgate/internal/control/account"
	"ftpgate/internal/control/proxy"
	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// sessionKeys implements proxy.Keys.
type sessionKeys struct{ *tlskeys.Keys }

// ForClient returns the TLS of one session with a client.
func (k sessionKeys) ForClient(f forward.Forward, client netip.Addr) (proxy.ClientTLS, error) {
	s, err := k.Keys.ForClient(f, client)
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	return s, nil
}

// Explain returns why a handshake has failed, for the client, and the remedy, for the operator.
func (sessionKeys) Explain(err error) (reason, remedy string) { return tlskeys.Explain(err) }

// loadKeys reads the certificates and accounts of the forwards, and returns the findings. After a fault the
// previous keys stay.
func loadKeys(keys *tlskeys.Keys, forwards []forward.Forward) []finding.Finding {
	addrs, _ := system.Addresses() // preflight reports the error
	return append(keys.Load(forwards, addrs), account.Check(forwards)...)
}
