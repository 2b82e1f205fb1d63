package archtest

// tooWide are the packages that may have lines of more than maxLine columns.
var tooWide = map[string]string{
	"internal/e2e/peers": "the hash of a password cannot be broken",
}
