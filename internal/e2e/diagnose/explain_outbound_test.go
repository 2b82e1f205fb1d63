package diagnose

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

// explain names servers that the clients of an outbound may not reach.
func TestExplainOutbound(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ key, why string }{
		"denied":      {`deny_servers = ["203.0.113.21"]`, "it is denied"},
		"not allowed": {`servers = ["198.51.100.0/24"]`, "it is not among the servers that are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, sh := harness.NewAdminTestbed(t, "[[outbound]]\nname = \"archive\"\ninterface = \"lan0\"\n"+
				tt.key+"\n")
			harness.Shell(t, st.Client(), "ip route add default via 192.168.5.2")
			st.Address = harness.Server4
			s := &env{Testbed: st, AdminGateway: sh}
			s.wantClientRejected()
			s.wantExplained(failureCase{
				code: "server_not_allowed",
				text: "the client may not reach the server: this gateway does not lead to 203.0.113.21: " +
					tt.why,
				remedy: "name the server in servers of the outbound, or take it out of deny_servers",
				absent: "connected",
			})
		})
	}
}
