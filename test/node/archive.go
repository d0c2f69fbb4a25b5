package node

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// An image is what is on the node besides our own images.
type image struct {
	// reference is its name, with a tag.
	reference string
	// layers are tar archives, uncompressed, on the host.
	layers []string
	// entrypoint is what runs if the pod does not say otherwise.
	entrypoint []string
}

// write makes an archive as `docker save` does (image-spec of docker, v1.2): manifest.json, the
// configuration and the layers.
func (i image) write(path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	archive := tar.NewWriter(out)
	type rootfs struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	manifest := struct {
		Config           string
		RepoTags, Layers []string
	}{Config: "config.json", RepoTags: []string{i.reference}}
	tree := rootfs{Type: "layers"}
	for _, layer := range i.layers {
		digest, err := copyLayer(archive, layer)
		if err != nil {
			return fmt.Errorf("image %s: layer: %w", i.reference, err)
		}
		tree.DiffIDs = append(tree.DiffIDs, "sha256:"+digest)
		manifest.Layers = append(manifest.Layers, digest+".tar")
	}
	config := map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": tree,
		"config": map[string]any{"Entrypoint": i.entrypoint, "Env": []string{"PATH=/usr/sbin:/usr/bin:/"}},
	}
	return errors.Join(
		writeJSON(archive, "config.json", config), writeJSON(archive, "manifest.json", []any{manifest}),
		archive.Close(), out.Close(),
	)
}

// copyLayer adds a layer under the name of its digest, which it returns.
func copyLayer(archive *tar.Writer, layer string) (digest string, err error) {
	in, err := os.Open(layer)
	if err != nil {
		return "", err
	}
	defer in.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, in)
	if err != nil {
		return "", err
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if err := archive.WriteHeader(&tar.Header{Name: digest + ".tar", Mode: 0o644, Size: size}); err != nil {
		return "", err
	}
	_, err = io.Copy(archive, in)
	return digest, err
}

func writeJSON(archive *tar.Writer, name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		return err
	}
	_, err = archive.Write(text)
	return err
}

// writeLayer makes a layer of a directory, without what skip names, all of it root's.
func writeLayer(path, directory string, skip ...string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	archive := tar.NewWriter(out)
	err = filepath.WalkDir(directory, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(directory, file)
		if err != nil || name == "." {
			return err
		}
		for _, left := range skip {
			if strings.HasPrefix(name+"/", left+"/") {
				return nil
			}
		}
		return addToLayer(archive, name, file, entry)
	})
	return errors.Join(err, archive.Close(), out.Close())
}

func addToLayer(archive *tar.Writer, name, file string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	case !info.Mode().IsRegular() && !info.IsDir():
		return nil // devices are the runtime's
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name, header.Uid, header.Gid, header.Uname, header.Gname = name, 0, 0, "", ""
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(archive, in)
	return err
}
