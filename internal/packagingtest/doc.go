// Package packagingtest holds the files of packaging/ for a host's service manager to what they promise: with
// the programs that read them there, for they are no part of ours.
//
// It has no code but its tests, and never installs anything on the host.
package packagingtest
