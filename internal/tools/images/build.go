package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An order is one image to be built.
type order struct {
	recipe
	source, version, architecture string
	created                       time.Time
}

// build writes the archive of one image and gives the digest of its manifest.
func build(ctx context.Context, o order, path string) (v1.Hash, error) {
	work, err := os.MkdirTemp("", "images-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(work)
	var programs []file
	for i, name := range o.programs {
		content, err := o.compile(ctx, name, work)
		if err != nil {
			return v1.Hash{}, err
		}
		f := file{path: name, mode: 0o755, content: content}
		if i == 0 {
			f.capabilities = o.capabilities
		}
		programs = append(programs, f)
	}
	image, err := o.assemble(programs)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := writeArchive(image, o.reference(o.version), o.created, path); err != nil {
		return v1.Hash{}, err
	}
	return image.Digest()
}

// compile builds one program as `make build` does, for the image's architecture.
func (o order) compile(ctx context.Context, name, work string) ([]byte, error) {
	path := filepath.Join(work, name)
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+o.version, "-o", path, "./cmd/"+name)
	command.Dir, command.Stderr = o.source, os.Stderr
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.architecture)
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("build of %s: %w", name, err)
	}
	return os.ReadFile(path)
}

// assemble puts the layers, what changes rarely first, and the configuration together.
func (o order) assemble(programs []file) (v1.Image, error) {
	var layers []v1.Layer
	for _, files := range [][]file{base(), programs} {
		layer, err := newLayer(files, o.created)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	image, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), layers...)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", o.architecture, v1.Time{Time: o.created}
	for i := range config.History {
		config.History[i] = v1.History{Created: config.Created, CreatedBy: "make images"}
	}
	config.Config = v1.Config{
		User: o.user, Entrypoint: []string{"/" + o.programs[0]}, WorkingDir: "/", Labels: o.labels(),
		Env: []string{"PATH=/"},
	}
	return mutate.ConfigFile(image, config)
}

// labels are those of the OCI image specification, annotations.md.
func (o order) labels() map[string]string {
	const prefix = "org.opencontainers.image."
	return map[string]string{
		prefix + "title": o.name, prefix + "description": o.title, prefix + "version": o.version,
		prefix + "licenses": "Apache-2.0", prefix + "source": "https://github.com/mooring-project/mooring",
		prefix + "created": o.created.Format(time.RFC3339),
	}
}
