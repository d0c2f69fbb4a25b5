package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"io"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A file is one file of a layer. Directories follow from the paths.
type file struct {
	// path has no leading slash.
	path    string
	mode    int64
	content []byte
	// capabilities are permitted and effective when the file is executed.
	capabilities []uint
}

// newLayer gives a layer of these files, all owned by root and of one time.
func newLayer(files []file, when time.Time) (v1.Layer, error) {
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	made := map[string]bool{".": true}
	for _, f := range files {
		if err := addDirectories(writer, made, path.Dir(f.path), when); err != nil {
			return nil, err
		}
		if err := add(writer, f, when); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

func addDirectories(writer *tar.Writer, made map[string]bool, directory string, when time.Time) error {
	if made[directory] {
		return nil
	}
	if err := addDirectories(writer, made, path.Dir(directory), when); err != nil {
		return err
	}
	made[directory] = true
	return writer.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: directory + "/", Mode: 0o755, ModTime: when, Format: tar.FormatPAX,
	})
}

func add(writer *tar.Writer, f file, when time.Time) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: f.path, Mode: f.mode, Size: int64(len(f.content)), ModTime: when, Format: tar.FormatPAX,
	}
	if len(f.capabilities) > 0 {
		header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capabilityAttribute(f.capabilities)}
	}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := writer.Write(f.content)
	return err
}

// capabilityAttribute gives the extended attribute of a file that has capabilities: struct
// vfs_cap_data of revision 2 with the effective bit (include/uapi/linux/capability.h).
func capabilityAttribute(capabilities []uint) string {
	const revision2, effective = 0x02000000, 0x1
	var permitted uint64
	for _, number := range capabilities {
		permitted |= 1 << number
	}
	attribute := binary.LittleEndian.AppendUint32(nil, revision2|effective)
	attribute = binary.LittleEndian.AppendUint32(attribute, uint32(permitted))
	attribute = binary.LittleEndian.AppendUint32(attribute, 0) // inheritable
	attribute = binary.LittleEndian.AppendUint32(attribute, uint32(permitted>>32))
	attribute = binary.LittleEndian.AppendUint32(attribute, 0)
	return string(attribute)
}
