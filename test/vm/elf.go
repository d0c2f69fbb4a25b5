package vm

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// libraryDirectories are where Debian's dynamic linker looks without a cache.
var libraryDirectories = []string{
	"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib",
	"/lib/x86_64-linux-gnu", "/lib64", "/lib",
}

// addELF adds the host's files at their own paths, and the interpreter and the
// libraries of those that are ELF files.
func addELF(a *archive, files ...string) {
	for _, file := range files {
		real, err := filepath.EvalSymlinks(file)
		if err != nil {
			a.fail(err)
			return
		}
		if a.seen[archiveName(file)] {
			continue
		}
		a.copy(file, real)
		needed, err := neededBy(real)
		if err != nil {
			a.fail(fmt.Errorf("%s: %w", file, err))
			return
		}
		addELF(a, needed...)
	}
}

// neededBy lists the paths of an ELF file's interpreter and libraries; other
// files need none.
func neededBy(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		var format *elf.FormatError
		if errors.As(err, &format) || errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	defer f.Close()
	var needed []string
	interpreter, err := interpreterOf(f)
	if err != nil {
		return nil, err
	}
	if interpreter != "" {
		needed = append(needed, interpreter)
	}
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		library, err := findLibrary(name)
		if err != nil {
			return nil, err
		}
		needed = append(needed, library)
	}
	return needed, nil
}

func interpreterOf(f *elf.File) (string, error) {
	for _, program := range f.Progs {
		if program.Type == elf.PT_INTERP {
			name, err := io.ReadAll(program.Open())
			return string(bytes.TrimRight(name, "\x00")), err
		}
	}
	return "", nil
}

func findLibrary(name string) (string, error) {
	for _, dir := range libraryDirectories {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("library %s: %w", name, os.ErrNotExist)
}

// WithLibraries returns the host's files and the interpreters and libraries
// of those that are ELF files, without repetition.
func WithLibraries(files ...string) ([]string, error) {
	var all []string
	for len(files) > 0 {
		file := files[0]
		files = files[1:]
		if slices.Contains(all, file) {
			continue
		}
		all = append(all, file)
		needed, err := neededBy(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		files = append(files, needed...)
	}
	return all, nil
}

// IsStatic reports whether the program at the host's path needs no dynamic
// linker, so that it runs in the machine by itself.
func IsStatic(program string) (bool, error) {
	f, err := elf.Open(program)
	if err != nil {
		return false, fmt.Errorf("%s: %w", program, err)
	}
	defer f.Close()
	interpreter, err := interpreterOf(f)
	return interpreter == "", err
}
