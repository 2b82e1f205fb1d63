package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// writeMaterials writes beside a program what it is made of, as the Go tool recorded it in the program: a
// bill of materials in CycloneDX's JSON.
func (s source) writeMaterials(program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: s.time.Format("2006-01-02T15:04:05Z"),
		Component: &cdx.Component{
			BOMRef: "ftpgate", Type: cdx.ComponentTypeApplication, Name: "ftpgate", Version: s.version,
			Properties: &[]cdx.Property{},
		},
	}
	for _, setting := range info.Settings {
		*bom.Metadata.Component.Properties = append(*bom.Metadata.Component.Properties,
			cdx.Property{Name: "go:build:" + setting.Key, Value: setting.Value})
	}
	std := strings.TrimPrefix(info.GoVersion, "go")
	components := []cdx.Component{{
		BOMRef: purl("std", std), Type: cdx.ComponentTypeLibrary, Name: "std", Version: std,
		PackageURL: purl("std", std),
	}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		sum, err := hashes(m.Sum)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", program, m.Path, err)
		}
		components = append(components, cdx.Component{
			BOMRef: purl(m.Path, m.Version), Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
			PackageURL: purl(m.Path, m.Version), Hashes: sum,
		})
	}
	bom.Components = &components
	depends := cdx.Dependency{Ref: "ftpgate", Dependencies: &[]string{}}
	for _, c := range components {
		*depends.Dependencies = append(*depends.Dependencies, c.BOMRef)
	}
	bom.Dependencies = &[]cdx.Dependency{depends}
	out, err := os.Create(filepath.Join(filepath.Dir(program), filepath.Base(program)+".cdx.json"))
	if err != nil {
		return err
	}
	if err := cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		out.Close() // the file is broken anyway
		return err
	}
	return out.Close()
}

// purl names a module for programs (github.com/package-url/purl-spec, type golang).
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}

// hashes returns the hash of a module as go.sum has it: "h1:" and SHA-256 in base64. A module without one was
// not downloaded.
func hashes(sum string) (*[]cdx.Hash, error) {
	encoded, ok := strings.CutPrefix(sum, "h1:")
	if !ok {
		return nil, fmt.Errorf("want a sum that begins with h1:, not %q", sum)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}, nil
}
