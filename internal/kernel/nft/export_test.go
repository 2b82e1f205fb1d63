package nft

import (
	"time"

	"ftpgate/internal/kernel/nftset"
)

// OpenPinholesFor is OpenPinholes with pinholes that are taken out after another time, and that
// expire after another timeout.
func OpenPinholesFor(table string, life, timeout time.Duration) (*nftset.Pinholes, error) {
	return nftset.openPinholes(table, life, timeout)
}

// OpenPassagesFor is OpenPassages with other times.
func OpenPassagesFor(table string, failed func(error), renewal, timeout time.Duration) (*nftset.Passages, error) {
	return nftset.openPassages(table, failed, renewal, timeout)
}
