package scenario

import (
	"math/rand/v2"
)

// The files of the server, and the size of the file that the client uploads.
const (
	downloadName = "64MiB.bin"
	downloadSize = 64 << 20
	readmeName   = "README"
	readmeText   = "This file and its neighbours live in memory.\r\n"
	uploadSize   = 8 << 20
)

// The seeds of the contents. Both ends make the same bytes from the same seed, so that the comparison finds a
// byte that is lost, doubled or moved on the way.
const (
	downloadSeed = "download"
	uploadSeed   = "upload"
)

// content returns size pseudo-random bytes made from seed.
func content(seed string, size int) []byte {
	var key [32]byte
	copy(key[:], seed)
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}

// PassivePorts are the ports on which the demo's server accepts data connections in the lab. Part 1 publishes
// them.
const PassivePorts = "50000-50100"

// Files returns the files of the demo's server, by their paths.
func Files() map[string][]byte { return files(content(downloadSeed, downloadSize)) }

func files(download []byte) map[string][]byte {
	return map[string][]byte{"/" + downloadName: download, "/" + readmeName: []byte(readmeText)}
}
