package scenario

import (
	"math/rand/v2"
	"sync"

	"ftpgate/internal/try/demo/ftpserver"
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

// Files returns the files of the demo's server, by their paths. The large one is made when a client retrieves
// it.
func Files() map[string]ftpserver.File {
	return files(ftpserver.File{Size: downloadSize,
		Content: sync.OnceValue(func() []byte { return content(downloadSeed, downloadSize) })})
}

func files(download ftpserver.File) map[string]ftpserver.File {
	return map[string]ftpserver.File{"/" + downloadName: download,
		"/" + readmeName: ftpserver.NewFile([]byte(readmeText))}
}
