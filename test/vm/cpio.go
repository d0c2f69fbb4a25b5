package vm

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// The file type bits of a cpio mode, as in <sys/stat.h>.
const (
	typeDirectory = 0o040000
	typeRegular   = 0o100000
	typeSymlink   = 0o120000
	typeCharacter = 0o020000
)

// archive writes a cpio archive in the "newc" format, which is what the kernel
// unpacks as an initramfs (Documentation/driver-api/early-userspace/
// buffer-format.rst). Archives may be concatenated; an entry of a later one
// replaces the file of an earlier one. Every file belongs to root. The first
// error sticks and comes back from close.
type archive struct {
	out   io.Writer
	size  int64
	inode uint32
	seen  map[string]bool
	err   error
}

func newArchive(out io.Writer) *archive {
	return &archive{out: out, seen: map[string]bool{}}
}

// entry is the header of one file in the archive.
type entry struct {
	name         string
	mode         uint32
	size         int64
	major, minor uint32
}

// header writes the fixed header and the name, padded to four bytes.
func (a *archive) header(e entry) {
	a.inode++
	if e.size >= 1<<32 {
		a.fail(fmt.Errorf("%s: %d bytes do not fit in a cpio archive", e.name, e.size))
		return
	}
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, e.mode, 0, 0, 1, 0, e.size, 0, 0, e.major, e.minor, len(e.name)+1, 0, e.name))
	a.pad()
}

func (a *archive) write(p []byte) {
	if a.err != nil {
		return
	}
	n, err := a.out.Write(p)
	a.size += int64(n)
	a.fail(err)
}

func (a *archive) pad() {
	a.write(make([]byte, -a.size&3))
}

func (a *archive) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// claim makes the parents of name and reports whether name itself is new.
func (a *archive) claim(name string) bool {
	if a.seen[name] {
		return false
	}
	if parent := path.Dir(name); parent != "." {
		a.directory(parent)
	}
	a.seen[name] = true
	return true
}

// directory adds a directory and its parents.
func (a *archive) directory(name string) {
	name = archiveName(name)
	if name == "." || !a.claim(name) {
		return
	}
	mode := uint32(0o755)
	if name == "tmp" {
		mode = 0o1777
	}
	a.header(entry{name: name, mode: typeDirectory | mode})
}

// file adds a regular file with the given content.
func (a *archive) file(name string, mode fs.FileMode, content []byte) {
	if name = archiveName(name); !a.claim(name) {
		return
	}
	a.header(entry{name: name, mode: typeRegular | uint32(mode.Perm()), size: int64(len(content))})
	a.write(content)
	a.pad()
}

// symlink adds a symbolic link.
func (a *archive) symlink(name, target string) {
	if name = archiveName(name); !a.claim(name) {
		return
	}
	a.header(entry{name: name, mode: typeSymlink | 0o777, size: int64(len(target))})
	a.write([]byte(target))
	a.pad()
}

// device adds a character device.
func (a *archive) device(name string, major, minor uint32) {
	if name = archiveName(name); !a.claim(name) {
		return
	}
	a.header(entry{name: name, mode: typeCharacter | 0o600, major: major, minor: minor})
}

// copy adds the regular file at the host's path.
func (a *archive) copy(name, host string) {
	if name = archiveName(name); !a.claim(name) {
		return
	}
	f, err := os.Open(host)
	if err != nil {
		a.fail(err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		a.fail(err)
		return
	}
	a.header(entry{name: name, mode: typeRegular | uint32(info.Mode().Perm()), size: info.Size()})
	if a.err != nil {
		return
	}
	n, err := io.CopyN(a.out, f, info.Size())
	a.size += n
	if err != nil {
		a.fail(fmt.Errorf("%s: read %d of %d bytes: %w", host, n, info.Size(), err))
	}
	a.pad()
}

// tree adds the host's file or directory with everything below it. A symbolic
// link is followed at the top and kept as a link below.
func (a *archive) tree(name, host string) {
	top, err := filepath.EvalSymlinks(host)
	if err != nil {
		a.fail(err)
		return
	}
	a.fail(filepath.WalkDir(top, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := path.Join(name, strings.TrimPrefix(file, top))
		switch {
		case d.IsDir():
			a.directory(inside)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			a.symlink(inside, target)
		case d.Type().IsRegular():
			a.copy(inside, file)
		}
		return a.err
	}))
}

// close ends the archive and returns the first error of all.
func (a *archive) close() error {
	a.header(entry{name: "TRAILER!!!"})
	return a.err
}

// archiveName is the name of a guest path in the archive: relative, and inside
// /usr where the guest's /bin, /sbin and /lib are links to it. A directory
// entry "bin" would replace the link.
func archiveName(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	first, _, _ := strings.Cut(name, "/")
	switch first {
	case "":
		return "."
	case "bin", "sbin", "lib", "lib64":
		if name != first {
			return "usr/" + name
		}
	}
	return name
}
