package system

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Unread is something of the host that could not be read.
type Unread struct {
	What string // "net.netfilter.nf_conntrack_max", ...
	Why  string
}

// Sysctls returns the values of switches by their names as sysctl(8) writes them: dots for slashes, and a
// slash for the dot in a name ("net.ipv4.conf.eth0/10.rp_filter"). One that the kernel does not have is in
// neither of the two results.
func Sysctls(names ...string) (values map[string]string, unread []Unread) {
	return sysctls(sysctlDir, names)
}

func sysctls(dir string, names []string) (map[string]string, []Unread) {
	values := make(map[string]string, len(names))
	var unread []Unread
	for _, name := range names {
		path := sysctlName(name) // which undoes itself
		if !filepath.IsLocal(path) {
			unread = append(unread, Unread{name, "it is no name of a switch"})
			continue
		}
		value, err := os.ReadFile(filepath.Join(dir, path))
		switch {
		case err == nil:
			values[name] = strings.TrimSpace(string(value))
		case !errors.Is(err, fs.ErrNotExist):
			unread = append(unread, Unread{name, bare(err).Error()})
		}
	}
	return values, unread
}

// Expectations counts the data connections that the helpers of this namespace expect at the moment. It
// takes CAP_NET_ADMIN or root, and a kernel with nf_conntrack_expect in /proc/net; the error wraps
// fs.ErrPermission or fs.ErrNotExist.
func Expectations() (int, error) {
	return expectations(threadProc + "/net/nf_conntrack_expect")
}

func expectations(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("system: count expectations: %w", bare(err))
	}
	defer f.Close()
	n := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		n++
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("system: count expectations: %w", err)
	}
	return n, nil
}

// LegacyTables returns the names of the tables that the older iptables has in this namespace, of IPv4 and
// IPv6: nftables cannot show what is in them. It takes root; the error wraps fs.ErrPermission.
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
		case !errors.Is(err, fs.ErrNotExist): // the kernel does not have the older iptables, which is as good
			return nil, fmt.Errorf("system: list tables of iptables-legacy: %w", bare(err))
		}
	}
	slices.Sort(tables)
	return slices.Compact(tables), nil
}
