package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// EnableAccounting makes conntrack in this namespace count bytes and send events, for connections that begin
// from now on. Like EnableForwarding it returns the sysctls that it changed.
func EnableAccounting() (changed []string, err error) { return enableAccounting(sysctlDir) }

func enableAccounting(dir string) (changed []string, err error) {
	return switchOn(dir, "net/netfilter/nf_conntrack_acct", "net/netfilter/nf_conntrack_events")
}

// ConntrackFill returns how many connections conntrack tracks in this namespace, and the limit, which is for
// the whole host.
func ConntrackFill() (count, limit uint64, err error) {
	for name, value := range map[string]*uint64{"nf_conntrack_count": &count, "nf_conntrack_max": &limit} {
		text, err := os.ReadFile(filepath.Join(sysctlDir, "net/netfilter", name))
		if err == nil {
			*value, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("system: read %s: %w", name, err)
		}
	}
	return count, limit, nil
}
