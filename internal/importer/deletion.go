package importer

import (
	"regexp"
	"slices"
	"strconv"

	"ftpgate/internal/importer/rule"
)

// deleteModules lists the lines that load the helper's modules, unless something still needs them.
func (a *analysis) deleteModules() {
	needed := slices.ContainsFunc(a.ftpHelpers, func(r rule.PathRule) bool { return !a.used[r.ID] })
	for _, m := range a.set.Modules {
		switch {
		case len(a.result.Forwards) == 0:
			a.left(m.Place, "it only loads a module, or switches it on. Kernels from 6.0 on attach the ftp "+
				"helper to no connection without a rule")
		case needed:
			a.left(m.Place, "keep it: a rule that is not carried over needs this module")
		default:
			a.delete(m.Deletion...)
		}
	}
}

// byIndex finds a deletion that names a section by its index.
var byIndex = regexp.MustCompile(`^uci delete firewall\.@\w+\[(\d+)\]$`)

// orderDeletions puts the highest index first: a deletion lowers the indexes behind it.
func (r *Result) orderDeletions() {
	index := func(s string) int {
		if m := byIndex.FindStringSubmatch(s); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
		return -1
	}
	var at []int
	var indexed []string
	for i, d := range r.Deletions {
		if index(d) >= 0 {
			at, indexed = append(at, i), append(indexed, d)
		}
	}
	slices.SortStableFunc(indexed, func(a, b string) int { return index(b) - index(a) })
	for i, d := range indexed {
		r.Deletions[at[i]] = d
	}
}
