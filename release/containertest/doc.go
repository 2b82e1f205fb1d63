// Package containertest holds what ftpgate offers for containers to what it promises: the image, compose.yaml
// and the chart for Kubernetes, with the libraries that read them there.
//
// It has no code but its tests, and never installs anything on the host.
package containertest
