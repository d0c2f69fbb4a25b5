package main

import (
	"os"
	"path/filepath"
	"regexp"
)

var pinned = regexp.MustCompile(`(?m)k8s\.io/kubernetes (v\S+)`)

// kubernetesVersion is the release that the peers are built from.
func kubernetesVersion() string {
	mod, err := os.ReadFile(filepath.FromSlash("test/controlplane/binaries/go.mod"))
	if match := pinned.FindSubmatch(mod); err == nil && match != nil {
		return string(match[1])
	}
	return "of an unknown version"
}
