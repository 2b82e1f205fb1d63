package daemon

import (
	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// sessionKeys are the keys as sessions want them.
type sessionKeys struct{ *tlskeys.Keys }

// Explain says why TLS was not agreed upon.
func (sessionKeys) Explain(err error) (plain, remedy string) { return tlskeys.Explain(err) }

// loadKeys reads the certificates of the forwards, and says what is wrong with them.
func loadKeys(keys *tlskeys.Keys, forwards []forward.Forward) []finding.Finding {
	addrs, _ := system.Addresses() // an error has been told with the host's other facts
	return keys.Load(forwards, addrs)
}

func severity(warning bool) finding.Severity {
	if warning {
		return finding.Warning
	}
	return finding.Fault
}
