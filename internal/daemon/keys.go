package daemon

import (
	"ftpgate/internal/dnat"
	"ftpgate/internal/gateway"
	"ftpgate/internal/secure"
	"ftpgate/internal/system"
)

// sessionKeys are the keys as sessions want them.
type sessionKeys struct{ *secure.Keys }

// Explain says why TLS was not agreed upon.
func (sessionKeys) Explain(err error) (plain, remedy string) { return secure.Explain(err) }

// loadKeys reads the certificates of the forwards, and says what is wrong with them.
func loadKeys(keys *secure.Keys, forwards []dnat.Forward) []gateway.Finding {
	addrs, _ := system.Addresses() // an error has been told with the host's other facts
	var findings []gateway.Finding
	for _, f := range keys.Load(forwards, addrs) {
		findings = append(findings, gateway.Finding{Forward: f.Forward, Text: f.Key + ": " + f.Text, Remedy: f.Remedy, Warning: f.Warning})
	}
	return findings
}
