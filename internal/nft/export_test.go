package nft

import "time"

// OpenPinholesFor is OpenPinholes with pinholes that are taken out after another time, and that
// expire after another timeout.
func OpenPinholesFor(table string, life, timeout time.Duration) (*Pinholes, error) {
	return openPinholes(table, life, timeout)
}

// OpenPassagesFor is OpenPassages with other times.
func OpenPassagesFor(table string, failed func(error), renewal, timeout time.Duration) (*Passages, error) {
	return openPassages(table, failed, renewal, timeout)
}
