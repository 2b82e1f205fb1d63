package nftset

import "time"

// OpenPinholesFor is OpenPinholes with other times.
func OpenPinholesFor(table string, life, timeout time.Duration) (*Pinholes, error) {
	return openPinholes(table, life, timeout)
}

// OpenPassthroughsFor is OpenPassthroughs with other times.
func OpenPassthroughsFor(table string, failed func(error), renewal, timeout time.Duration) (
	*Passthroughs, error) {
	return openPassthroughs(table, failed, renewal, timeout)
}
