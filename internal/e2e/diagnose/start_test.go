package diagnose

import (
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab/labtest"
)

// A start warns of other programs' rules that keep clients away, once it serves.
func TestStartWarns(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	l := labtest.New(t)
	harness.Shell(t, l.Gateway(), "nft 'table ip nat { chain DOCKER { type nat hook prerouting priority "+
		"-100; "+
		"tcp dport 2121 dnat to 172.17.0.2:21; }; }; table inet fw { chain in { type filter hook input "+
		"priority 0; "+
		"policy drop; tcp dport 2121 accept; }; }'")
	p := harness.Start(t, l.Gateway(), "forward", "--data", "relay", "192.168.5.2:2121",
		"203.0.113.21").AwaitReady()
	p.AwaitLog("chain DOCKER of table ip nat sends connections to port 2121 elsewhere", 1)
	p.AwaitLog("chain in of table inet fw refuses by default, and no rule of it accepts the passive ports", 1)
	if ready, _, _ := strings.Cut(p.Log(), "chain DOCKER"); !strings.Contains(ready, "msg=ready") {
		t.Errorf("got\n%s\nwant the warning behind ready: the start does not wait for it", p.Log())
	}
}
