package ftpserver

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"goftp.io/server/v2"
)

// maxUpload bounds what the server keeps of one file, in bytes.
const maxUpload = 256 << 20

// modified is when every file of the server was last changed: a listing looks the same each time.
var modified = time.Date(2023, time.October, 2, 17, 27, 48, 0, time.UTC)

// memoryDriver is a server's files: one directory, in memory. It implements server.Driver.
type memoryDriver struct {
	mu    sync.Mutex // guards files; contents are never changed in place
	files map[string][]byte
}

var errReadOnly = errors.New("this server stores and hands out files, and nothing else")

// Stat implements server.Driver.
func (m *memoryDriver) Stat(_ *server.Context, name string) (os.FileInfo, error) {
	if name == "/" {
		return info{name: "/", dir: true}, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return info{name: path.Base(name), size: len(data)}, nil
}

// ListDir implements server.Driver, in the order of names.
func (m *memoryDriver) ListDir(_ *server.Context, name string, each func(os.FileInfo) error) error {
	if name != "/" {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	m.mu.Lock()
	sizes := make(map[string]int, len(m.files))
	for name, data := range m.files {
		sizes[name] = len(data)
	}
	m.mu.Unlock()
	for _, name := range slices.SortedFunc(maps.Keys(sizes), cmp.Compare[string]) {
		if err := each(info{name: path.Base(name), size: sizes[name]}); err != nil {
			return err
		}
	}
	return nil
}

// GetFile implements server.Driver.
func (m *memoryDriver) GetFile(_ *server.Context, name string, offset int64) (int64, io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[name]
	if !ok || offset < 0 || offset > int64(len(data)) {
		return 0, nil, fmt.Errorf("%s at %d: %w", name, offset, fs.ErrNotExist)
	}
	data = data[offset:]
	return int64(len(data)), io.NopCloser(bytes.NewReader(data)), nil
}

// PutFile implements server.Driver, from the file's beginning only.
func (m *memoryDriver) PutFile(_ *server.Context, name string, from io.Reader, offset int64) (int64, error) {
	if offset > 0 {
		return 0, errReadOnly
	}
	if data, ok := from.(io.Closer); ok {
		defer data.Close() // which the library forgets
	}
	data, err := io.ReadAll(io.LimitReader(from, maxUpload+1))
	if err == nil && len(data) > maxUpload {
		err = fmt.Errorf("%s: more than %d bytes", name, maxUpload)
	}
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = data
	return int64(len(data)), nil
}

// DeleteDir implements server.Driver.
func (m *memoryDriver) DeleteDir(*server.Context, string) error { return errReadOnly }

// DeleteFile implements server.Driver.
func (m *memoryDriver) DeleteFile(*server.Context, string) error { return errReadOnly }

// Rename implements server.Driver.
func (m *memoryDriver) Rename(*server.Context, string, string) error { return errReadOnly }

// MakeDir implements server.Driver.
func (m *memoryDriver) MakeDir(*server.Context, string) error { return errReadOnly }

// info describes a file, or the directory. It implements os.FileInfo.
type info struct {
	name string
	size int
	dir  bool
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(i.size) }
func (i info) Mode() fs.FileMode  { return 0o644 }
func (i info) ModTime() time.Time { return modified }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }

// fixedPerm shows every file as its owner's to write and everybody's to read.
type fixedPerm struct{ *server.SimplePerm }

// GetMode implements server.Perm.
func (fixedPerm) GetMode(string) (os.FileMode, error) { return 0o644, nil }
