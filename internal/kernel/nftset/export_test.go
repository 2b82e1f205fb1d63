package nftset

import "time"

// OpenPinholesFor is OpenPinholeSet with other times.
func OpenPinholesFor(table string, life, timeout time.Duration) (*PinholeSet, error) {
	return openPinholes(table, life, timeout)
}

// OpenPassthroughsFor is OpenPassthroughSet with other times.
func OpenPassthroughsFor(table string, failed func(error), renewal, timeout time.Duration) (
	*PassthroughSet, error) {
	return openPassthroughs(table, failed, renewal, timeout)
}
