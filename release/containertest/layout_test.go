package containertest

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// image is that of this machine's architecture, as OCI's layout has it (image-spec, image-layout.md). It is
// read without the library that wrote it.
type image struct {
	config    imageConfig
	layers    []string // files
	names     []string // of all that is in the layers, sorted
	platforms []string // of the index
}

// imageConfig is what a container gets from an image (image-spec, config.md).
type imageConfig struct {
	User            string
	Env             []string
	Entrypoint, Cmd []string
	Labels          map[string]string
}

type descriptor struct {
	MediaType, Digest string
	Platform          struct{ OS, Architecture string }
}

// readImage reads the image that make image has made.
func readImage(t *testing.T) image {
	t.Helper()
	found, err := filepath.Glob("../../dist/ftpgate-*-image")
	if err != nil || len(found) != 1 {
		t.Fatalf("got images %q, error %v; want one in dist: make image makes it", found, err)
	}
	blob := func(d descriptor) string {
		return filepath.Join(found[0], "blobs", strings.Replace(d.Digest, ":", "/", 1))
	}
	var index, platforms struct{ Manifests []descriptor }
	readJSON(t, filepath.Join(found[0], "index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("got %d images; want one, for several platforms", len(index.Manifests))
	}
	readJSON(t, blob(index.Manifests[0]), &platforms)
	var read image
	for _, d := range platforms.Manifests {
		read.platforms = append(read.platforms, d.Platform.OS+"/"+d.Platform.Architecture)
	}
	i := slices.Index(read.platforms, "linux/"+runtime.GOARCH)
	if i < 0 {
		t.Skipf("no image for %s", runtime.GOARCH)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	readJSON(t, blob(platforms.Manifests[i]), &manifest)
	readJSON(t, blob(manifest.Config), &struct{ Config *imageConfig }{&read.config})
	for _, d := range manifest.Layers {
		read.layers = append(read.layers, blob(d))
		walkLayer(t, blob(d), func(h *tar.Header, _ io.Reader) error {
			read.names = append(read.names, h.Name)
			return nil
		})
	}
	slices.Sort(read.names)
	return read
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// unpack unpacks the layers into a directory, with their owners and modes.
func (i image) unpack(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // another user goes through it
		t.Fatal(err)
	}
	for _, layer := range i.layers {
		walkLayer(t, layer, func(h *tar.Header, content io.Reader) error {
			path := filepath.Join(dir, h.Name)
			if h.Typeflag == tar.TypeDir {
				if err := os.Mkdir(path, 0o755); err != nil {
					return err
				}
			} else if text, err := io.ReadAll(content); err != nil {
				return err
			} else if err := os.WriteFile(path, text, 0o644); err != nil {
				return err
			}
			return errors.Join(os.Chown(path, h.Uid, h.Gid), os.Chmod(path, h.FileInfo().Mode()))
		})
	}
	return dir
}

func walkLayer(t *testing.T, file string, visit func(*tar.Header, io.Reader) error) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	uncompressed, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(uncompressed); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err == nil {
			err = visit(h, r)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
}
