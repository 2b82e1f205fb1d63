package ftps

import (
	"crypto/tls"
	"testing"

	"ftpgate/internal/e2e/harness"
)

// Clients such as rclone have one cache of TLS sessions for all their control connections: data connections
// resume the session of whichever was the last to give out a ticket.
func TestSharedSessionCache(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			s := harness.NewClientTLSTestbed(t)
			shared := s.Trusted.Clone()
			shared.MaxVersion = version
			shared.ClientSessionCache = tls.NewLRUClientSessionCache(32)
			var open []harness.Session
			for range 4 {
				open = append(open, s.LoginTLS(shared))
			}
			for range 2 {
				for _, p := range open {
					p.RetrieveTLS(shared).Complete()
				}
			}
			for _, p := range open {
				p.Quit()
			}
		})
	}
}
