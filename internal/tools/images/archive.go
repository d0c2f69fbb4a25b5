package main

import (
	"archive/tar"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// writeArchive writes an image as an OCI image layout (image-layout.md) in a tar archive. A
// manifest.json beside the index names the same blobs for readers of docker's older format.
func writeArchive(image v1.Image, reference string, when time.Time, path string) error {
	work, err := os.MkdirTemp("", "layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	directory, err := layout.Write(work, empty.Index)
	if err != nil {
		return err
	}
	if err := directory.AppendImage(image, layout.WithAnnotations(names(reference))); err != nil {
		return err
	}
	manifest, err := dockerManifest(image, reference)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, "manifest.json"), manifest, 0o644); err != nil {
		return err
	}
	return pack(work, when, path)
}

// names are the annotations by which containerd and others call the image.
func names(reference string) map[string]string {
	tag := reference[strings.LastIndexByte(reference, ':')+1:]
	return map[string]string{"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag}
}

func dockerManifest(image v1.Image, reference string) ([]byte, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	e := entry{Config: blob(manifest.Config.Digest), RepoTags: []string{reference}}
	for _, layer := range manifest.Layers {
		e.Layers = append(e.Layers, blob(layer.Digest))
	}
	return json.Marshal([]entry{e})
}

func blob(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

// pack writes a directory's files, in order of their names and of one time, to an archive that
// appears as a whole.
func pack(directory string, when time.Time, path string) error {
	var files []string
	err := fs.WalkDir(os.DirFS(directory), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(files)
	out, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer out.Close()
	writer := tar.NewWriter(out)
	for _, name := range files {
		if err := packFile(writer, directory, name, when); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func packFile(writer *tar.Writer, directory, name string, when time.Time) error {
	in, err := os.Open(filepath.Join(directory, name))
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size(), ModTime: when, Format: tar.FormatPAX}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(writer, in)
	return err
}
