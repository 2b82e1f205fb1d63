package scenario

import (
	"math/rand/v2"
)

// What the server has, and what the client sends.
const (
	downloadName = "64MiB.bin"
	downloadSize = 64 << 20
	readmeName   = "README"
	readmeText   = "This file and its neighbours live in memory.\r\n"
	uploadSize   = 8 << 20
)

// The seeds of the contents. Both ends make the same bytes of the same seed, so that a byte
// that is lost, doubled or moved on the way is found.
const (
	downloadSeed = "download"
	uploadSeed   = "upload"
)

// content returns size pseudo-random bytes of a seed.
func content(seed string, size int) []byte {
	var key [32]byte
	copy(key[:], seed)
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}

// PassivePorts is where the embedded server opens data connections in the lab, and what act 1 publishes.
const PassivePorts = "50000-50100"

// Files returns what the server of the story has to give.
func Files() map[string][]byte { return files(content(downloadSeed, downloadSize)) }

func files(download []byte) map[string][]byte {
	return map[string][]byte{"/" + downloadName: download, "/" + readmeName: []byte(readmeText)}
}
