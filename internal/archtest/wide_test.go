package archtest

// tooWide are the packages that may have lines of more than maxLine columns.
var tooWide = map[string]string{
	"internal/e2e/peers": "the hash of a password cannot be broken",
	"internal/archtest":  "rows, and snippets of code in one line",
}
