package scenario

import (
	"math/rand/v2"
	"sync"

	"ftpgate/internal/try/demo/ftpserver"
)

// The files of the server, and the size of the file that the client uploads. A measurement of speed needs the
// large file; a comparison of bytes does not.
const (
	downloadName = "4MiB.bin"
	downloadSize = 4 << 20
	largeName    = "64MiB.bin"
	largeSize    = 64 << 20
	readmeName   = "README"
	readmeText   = "This file and its neighbours live in memory.\r\n"
	uploadSize   = 1 << 20
)

// The seeds of the contents. Both ends make the same bytes from the same seed, so that the comparison finds a
// byte that is lost, doubled or moved on the way.
const (
	downloadSeed = "download"
	largeSeed    = "large"
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

// PassivePorts are the ports on which the demo's server accepts data connections in the lab. Act 1 publishes
// them.
const PassivePorts = "50000-50100"

// Files returns the files of the demo's server, by their paths. The large ones are made when a client
// retrieves them.
func Files() map[string]ftpserver.File {
	made := func(seed string, size int) ftpserver.File {
		bytes := sync.OnceValue(func() []byte { return content(seed, size) })
		return ftpserver.File{Size: size, Content: bytes}
	}
	return files(made(downloadSeed, downloadSize), made(largeSeed, largeSize))
}

func files(download, large ftpserver.File) map[string]ftpserver.File {
	return map[string]ftpserver.File{
		"/" + readmeName:   ftpserver.NewFile([]byte(readmeText)),
		"/" + downloadName: download,
		"/" + largeName:    large,
	}
}
