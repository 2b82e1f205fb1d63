package system

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Unread is a value of the host that could not be read.
type Unread struct {
	What string // "net.netfilter.nf_conntrack_max", ...
	Why  string
}

// Sysctls returns the values of sysctls by name. Names are those of sysctl(8): dots instead of slashes, and a
// slash instead of a dot in a name ("net.ipv4.conf.eth0/10.rp_filter"). A sysctl that the kernel does not
// have is in neither result.
func Sysctls(names ...string) (values map[string]string, unread []Unread) {
	return sysctls(sysctlDir, names)
}

func sysctls(dir string, names []string) (map[string]string, []Unread) {
	values := make(map[string]string, len(names))
	var unread []Unread
	for _, name := range names {
		path := sysctlName(name) // the function is its own inverse
		if !filepath.IsLocal(path) {
			unread = append(unread, Unread{name, "it is no name of a switch"})
			continue
		}
		value, err := os.ReadFile(filepath.Join(dir, path))
		switch {
		case err == nil:
			values[name] = strings.TrimSpace(string(value))
		case !errors.Is(err, fs.ErrNotExist):
			unread = append(unread, Unread{name, withoutPath(err).Error()})
		}
	}
	return values, unread
}

// Expectations counts the data connections that the helpers of this namespace expect now. It needs
// CAP_NET_ADMIN or root, or the error wraps fs.ErrPermission; and nf_conntrack_expect in /proc/net, or the
// error wraps fs.ErrNotExist.
func Expectations() (int, error) {
	return expectations(threadProc + "/net/nf_conntrack_expect")
}

func expectations(path string) (int, error) {
	lines, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("system: count expectations: %w", withoutPath(err))
	}
	return bytes.Count(lines, []byte("\n")), nil
}

// LegacyIptablesFilter reports whether iptables-legacy has a filter table in this namespace, for IPv4 or
// IPv6. The table exists from its first use on, even if it only accepts. Without privilege the answer is
// false.
func LegacyIptablesFilter() bool {
	tables, _ := LegacyTables()
	return slices.Contains(tables, "filter")
}

// LegacyTables returns the names of the tables that iptables-legacy has in this namespace, of IPv4 and IPv6.
// nftables cannot show their rules. It needs root, or the error wraps fs.ErrPermission.
func LegacyTables() ([]string, error) {
	return legacyTables(threadProc + "/net")
}

func legacyTables(dir string) (tables []string, err error) {
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case err == nil:
			for line := range bytes.Lines(text) {
				tables = append(tables, string(bytes.TrimSpace(line)))
			}
		case !errors.Is(err, fs.ErrNotExist): // without iptables-legacy in the kernel there are no tables
			return nil, fmt.Errorf("system: list tables of iptables-legacy: %w", withoutPath(err))
		}
	}
	slices.Sort(tables)
	return slices.Compact(tables), nil
}
