package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	imageProgram = "/usr/bin/ftpgate"
	imageState   = "/var/lib/ftpgate"
)

// layer makes the one layer of an image: the program, and what it needs of a system.
func (s source) layer(program string, licenses []byte) (v1.Layer, error) {
	binary, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	users := fmt.Sprintf("root:x:0:0:root:/:/sbin/nologin\nftpgate:x:%d:%[1]d:ftpgate:%s:/sbin/nologin\n",
		imageUser, imageState)
	var b bytes.Buffer
	w := &layerWriter{tar: tar.NewWriter(&b), source: s, made: map[string]bool{".": true}}
	w.file("etc/passwd", 0o644, []byte(users))
	w.file("etc/group", 0o644, fmt.Appendf(nil, "root:x:0:\nftpgate:x:%d:\n", imageUser))
	w.file("etc/ssl/certs/ca-certificates.crt", 0o644, authorities())
	w.directory("etc/ftpgate", 0o755, 0)
	w.directory("tmp", 0o1777, 0) // for the admin socket
	w.file("usr/share/licenses/ftpgate/LICENSES.txt", 0o644, licenses)
	w.file(imageProgram[1:], 0o755, binary)
	w.directory(imageState[1:], 0o700, imageUser)
	if err := w.close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression),
		tarball.WithCompressedCaching)
}

// authorities returns the authorities that Mozilla trusts for servers on the web, in PEM. They come with a Go
// module: go.sum pins them, so that every machine makes the same image. Those that Mozilla trusts only for
// certificates of before some day are left out, because PEM cannot say so.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // into memory
		}
	}
	return b.Bytes()
}

// layerWriter writes a layer, with the directories above each file. The first error stays.
type layerWriter struct {
	tar    *tar.Writer
	source source
	made   map[string]bool
	err    error
}

func (w *layerWriter) file(name string, mode int64, content []byte) {
	w.directory(path.Dir(name), 0o755, 0)
	w.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}, content)
}

// directory adds a directory of a user, and those above it, unless they are there.
func (w *layerWriter) directory(name string, mode int64, uid int) {
	if w.made[name] {
		return
	}
	w.made[name] = true
	w.directory(path.Dir(name), 0o755, 0)
	w.add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: uid, Gid: uid}, nil)
}

func (w *layerWriter) add(h tar.Header, content []byte) {
	if w.err != nil {
		return
	}
	h.ModTime = w.source.time
	if w.err = w.tar.WriteHeader(&h); w.err == nil {
		_, w.err = w.tar.Write(content)
	}
}

func (w *layerWriter) close() error {
	if w.err != nil {
		return w.err
	}
	return w.tar.Close()
}
