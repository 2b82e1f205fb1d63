package ruleset

import (
	"strings"
)

// DefaultTable is the name of the daemon's table. A single forward (ftpgate forward) has a table of its own,
// whose name begins with DefaultTable and a hyphen.
const DefaultTable = "ftpgate"

// OwnTable reports whether a table belongs to an ftpgate, by its name: "ftpgate" or "ftpgate-...".
func OwnTable(name string) bool {
	return name == DefaultTable || strings.HasPrefix(name, DefaultTable+"-")
}
