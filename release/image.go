package main

import (
	"debug/buildinfo"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageUser runs ftpgate in a container: a number that no host gives to anybody (the "nonroot" of other
// images), without privileges. So data goes over the relay.
const imageUser = 65532

// writeImages makes the container image of each target that has one:
//
//	ftpgate-VERSION-image            an OCI layout with an index of all platforms
//	ftpgate-VERSION-image-ARCH.tar   one image, as "docker save" writes it
func (s source) writeImages(into string, programs map[string]string, licenses []byte) error {
	base := filepath.Join(into, "ftpgate-"+s.version+"-image")
	tag, err := name.NewTag("ftpgate:" + imageTag(s.version))
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var labels map[string]string
	for _, t := range targets {
		if !t.image {
			continue
		}
		image, err := s.image(t, programs[t.name], licenses)
		if err != nil {
			return err
		}
		file, err := image.ConfigFile()
		if err != nil {
			return err
		}
		labels = file.Config.Labels // the same for all
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image,
			Descriptor: v1.Descriptor{Platform: file.Platform()}})
		if err := tarball.WriteToFile(base+"-"+t.name+".tar", tag, image); err != nil {
			return err
		}
	}
	index = mutate.Annotations(index, labels).(v1.ImageIndex)
	oci, err := layout.Write(base, empty.Index)
	if err != nil {
		return err
	}
	return oci.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag.TagStr()}))
}

// imageTag is the version as a tag, which may have no "+".
func imageTag(version string) string { return strings.ReplaceAll(version, "+", "-") }

// image makes the image for one platform.
func (s source) image(t target, program string, licenses []byte) (v1.Image, error) {
	labels, err := s.labels(program)
	if err != nil {
		return nil, err
	}
	layer, err := s.layer(program, licenses)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: t.goarch, Created: v1.Time{Time: s.time},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       fmt.Sprintf("%d:%d", imageUser, imageUser),
			Entrypoint: []string{imageProgram},
			Cmd:        []string{"run"},
			Env: []string{"PATH=" + filepath.Dir(imageProgram),
				"STATE_DIRECTORY=" + imageState}, // systemd's variable, for certificates and bans
			WorkingDir:   "/",
			ExposedPorts: map[string]struct{}{"2121/tcp": {}, "50000/tcp": {}},
			Labels:       labels,
		},
	})
	if err != nil {
		return nil, err
	}
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer,
		History: v1.History{Created: v1.Time{Time: s.time}, CreatedBy: "ftpgate's release"}})
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(image, labels).(v1.Image), nil
}

// labels says what the image is, in the words of OCI (image-spec, annotations.md).
func (s source) labels(program string) (map[string]string, error) {
	title, text, _ := strings.Cut(description, "\n")
	labels := map[string]string{
		"org.opencontainers.image.title":       "ftpgate: " + title,
		"org.opencontainers.image.description": strings.ReplaceAll(text, "\n", " "),
		"org.opencontainers.image.version":     s.version,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.vendor":      maintainer,
		"org.opencontainers.image.created":     s.time.Format("2006-01-02T15:04:05Z"),
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			labels["org.opencontainers.image.revision"] = setting.Value
		}
	}
	if s.url != "" {
		labels["org.opencontainers.image.source"] = s.url
	}
	return labels, nil
}
