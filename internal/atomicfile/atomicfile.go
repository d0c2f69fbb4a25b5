// Package atomicfile replaces files as a whole: whoever opens one finds all of the old content or
// all of the new one, also after the writer was killed.
package atomicfile

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Write puts what fill writes into the file of that name. It takes the place of an older one when
// all of it is there; only the owner may read it. If it is durable, it also outlives a machine that
// stops without warning, which costs a wait for the disk. The file's size is returned.
func Write(path string, durable bool, fill func(io.Writer) error) (octets int64, err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), temporaryName(path)) // mode 0600
	if err != nil {
		return 0, err
	}
	octets, err = fillAndClose(temporary, durable, fill)
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		os.Remove(temporary.Name())
		return 0, err
	}
	if durable {
		err = syncDirectory(filepath.Dir(path))
	}
	return octets, err
}

func fillAndClose(f *os.File, durable bool, fill func(io.Writer) error) (octets int64, err error) {
	err = fill(f)
	if err == nil && durable {
		err = f.Sync()
	}
	if err == nil {
		octets, err = f.Seek(0, io.SeekCurrent)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return octets, err
}

// syncDirectory has the disk keep the renaming. Not every file system can.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	defer directory.Close()
	_ = directory.Sync()
	return nil
}

// temporaryName is the pattern of the names that files have until they are whole.
func temporaryName(path string) string { return "." + filepath.Base(path) + ".*.tmp" }

// leftFor is the age from which a file that was never finished has been left behind by a process
// that was killed; a younger one may be another process's at work.
const leftFor = 10 * time.Minute

// RemoveLeftovers removes what processes that were killed have not finished.
func RemoveLeftovers(path string, now time.Time) {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(path), temporaryName(path)))
	if err != nil {
		return // a directory whose name is a broken pattern; leftovers do no harm
	}
	for _, name := range found {
		if info, err := os.Lstat(name); err == nil && now.Sub(info.ModTime()) > leftFor {
			os.Remove(name)
		}
	}
}
