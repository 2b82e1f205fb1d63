package ftpserver

import (
	"bytes"
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

// maxUpload bounds the size of an uploaded file, in bytes.
const maxUpload = 256 << 20

// modified is the modification time of every file, so that listings are always the same.
var modified = time.Date(2023, time.October, 2, 17, 27, 48, 0, time.UTC)

// File is a file of the server. Content returns its Size bytes, the same slice each time: the server neither
// changes nor copies it, and calls Content only when a client retrieves the file, perhaps several at once.
type File struct {
	Size    int
	Content func() []byte
}

// NewFile returns a file with this content.
func NewFile(content []byte) File { return File{len(content), func() []byte { return content }} }

// memoryDriver keeps the files of one directory in memory. It implements server.Driver.
type memoryDriver struct {
	mu    sync.Mutex // guards files; contents never change in place
	files map[string]File
}

var errReadOnly = errors.New("this server only stores and sends files")

// Stat implements server.Driver.
func (m *memoryDriver) Stat(_ *server.Context, name string) (os.FileInfo, error) {
	if name == "/" {
		return info{name: "/", dir: true}, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	file, ok := m.files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return info{name: path.Base(name), size: file.Size}, nil
}

// ListDir implements server.Driver. It lists files by name.
func (m *memoryDriver) ListDir(_ *server.Context, name string, each func(os.FileInfo) error) error {
	if name != "/" {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	m.mu.Lock()
	files := maps.Clone(m.files)
	m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := each(info{name: path.Base(name), size: files[name].Size}); err != nil {
			return err
		}
	}
	return nil
}

// GetFile implements server.Driver.
func (m *memoryDriver) GetFile(_ *server.Context, name string, offset int64) (int64, io.ReadCloser, error) {
	m.mu.Lock()
	file, ok := m.files[name]
	m.mu.Unlock()
	if !ok || offset < 0 || offset > int64(file.Size) {
		return 0, nil, fmt.Errorf("%s at %d: %w", name, offset, fs.ErrNotExist)
	}
	data := file.Content()[offset:]
	return int64(len(data)), io.NopCloser(bytes.NewReader(data)), nil
}

// PutFile implements server.Driver. It cannot resume an upload.
func (m *memoryDriver) PutFile(_ *server.Context, name string, from io.Reader, offset int64) (int64, error) {
	if offset > 0 {
		return 0, errReadOnly
	}
	if data, ok := from.(io.Closer); ok {
		defer data.Close() // the library does not close it
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
	m.files[name] = NewFile(data)
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

// fixedPerm gives every file the mode 0644.
type fixedPerm struct{ *server.SimplePerm }

// GetMode implements server.Perm.
func (fixedPerm) GetMode(string) (os.FileMode, error) { return 0o644, nil }
