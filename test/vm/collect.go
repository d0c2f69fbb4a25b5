package vm

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// relative is a guest path without its leading slash, as tar names it.
func relative(guest string) string {
	return strings.TrimPrefix(path.Clean(guest), "/")
}

// receive unpacks the tar archive of collected files to where wanted says.
// An empty stream means that none of the files existed.
func receive(stream io.Reader, wanted map[string]string) error {
	in := tar.NewReader(stream)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("collected files: %w", err)
		}
		host, ok := destination(relative("/"+header.Name), wanted)
		if !ok {
			continue
		}
		if err := place(host, header, in); err != nil {
			return fmt.Errorf("collected file: %w", err)
		}
	}
}

// destination finds the host path of a collected file by its longest wanted
// prefix.
func destination(name string, wanted map[string]string) (string, bool) {
	best, found := "", false
	longest := -1
	for guest, host := range wanted {
		top := relative(guest)
		rest, below := strings.CutPrefix(name, top+"/")
		if name == top {
			rest, below = "", true
		}
		if below && len(top) > longest {
			best, found, longest = filepath.Join(host, rest), true, len(top)
		}
	}
	return best, found
}

// place writes one collected file or folder to the host. A regular file is
// replaced in one step: on the host's kernel it can be the very file that tar
// is reading.
func place(host string, header *tar.Header, content io.Reader) error {
	switch header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(host, 0o755)
	case tar.TypeReg:
	default:
		return nil
	}
	if info, err := os.Stat(host); err == nil && !info.Mode().IsRegular() {
		return writeInto(host, content)
	}
	if err := os.MkdirAll(filepath.Dir(host), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(host), ".collect-")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	err = errors.Join(err, f.Chmod(header.FileInfo().Mode().Perm()), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), host)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// writeInto writes to what is no regular file, such as /dev/null.
func writeInto(host string, content io.Reader) error {
	f, err := os.OpenFile(host, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
