package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// modules are patterns of the kernel modules in the machine, relative to
// kernel/ and without their suffix; what they depend on comes along. A pattern
// that ends in /** means everything below.
var modules = []string{
	"net/netfilter/**", "net/ipv4/**", "net/ipv6/**", "net/bridge/**", "net/sctp/**", "net/sched/**",
	"net/8021q/**", "net/netlink/*", "net/packet/*", "net/unix/*",
	"drivers/net/veth", "drivers/net/dummy", "drivers/net/nlmon", "drivers/net/tun", "drivers/net/virtio_net",
	"drivers/net/ipvlan/*", "drivers/net/macvlan", "drivers/net/vxlan/*", "drivers/net/vrf", "drivers/net/ifb",
	"drivers/block/virtio_blk", "drivers/block/loop", "drivers/char/hw_random/virtio-rng",
	"fs/overlayfs/*", "fs/ext4/*",
}

// kernelFiles is an unpacked kernel package.
type kernelFiles struct {
	dir     string // of the unpacked package
	release string
}

// fetchKernel downloads the current kernel package into dir and unpacks it,
// without installing it.
func fetchKernel(ctx context.Context, dir string) (*kernelFiles, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	name, err := kernelImagePackage(ctx)
	if err != nil {
		return nil, err
	}
	if err := withLists(ctx, func() error { return download(ctx, dir, name) }); err != nil {
		return nil, err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return nil, fmt.Errorf("download of %s: found %d packages, want 1", name, len(debs))
	}
	if err := command(ctx, dir, "dpkg", "-x", debs[0], dir); err != nil {
		return nil, err
	}
	k := &kernelFiles{dir: dir, release: strings.TrimPrefix(name, "linux-image-")}
	if _, err := os.Stat(k.modulesDir()); err != nil {
		return nil, fmt.Errorf("package %s: %w", name, err)
	}
	return k, nil
}

// download fetches exactly one package: a name with a dot that apt does not
// know is taken as a pattern and would fetch every kernel there is.
func download(ctx context.Context, dir, name string) error {
	listed, err := output(ctx, "apt-get", "download", "--print-uris", name)
	if err != nil {
		return err
	}
	if n := strings.Count(listed, ".deb "); n != 1 {
		return fmt.Errorf("package %s: apt-get would download %d files, want 1", name, n)
	}
	return command(ctx, dir, "apt-get", "download", name)
}

func (k *kernelFiles) modulesDir() string {
	for _, top := range []string{"usr/lib", "lib"} {
		dir := filepath.Join(k.dir, top, "modules", k.release)
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return filepath.Join(k.dir, "lib", "modules", k.release)
}

// extract writes the kernel as a plain ELF file, which QEMU starts directly
// (PVH): under emulation the kernel's own decompression takes a second.
func (k *kernelFiles) extract(ctx context.Context, file string) error {
	compressed, err := os.ReadFile(filepath.Join(k.dir, "boot", "vmlinuz-"+k.release))
	if err != nil {
		return err
	}
	start := bytes.Index(compressed, []byte{0x28, 0xb5, 0x2f, 0xfd})
	if start < 0 {
		return errors.New("vmlinuz: no zstd stream inside")
	}
	cmd := exec.CommandContext(ctx, "zstd", "-dc")
	cmd.Stdin = bytes.NewReader(compressed[start:])
	// What follows the stream in the file makes zstd fail after it is done.
	vmlinux, err := cmd.Output()
	if !bytes.HasPrefix(vmlinux, []byte("\x7fELF")) {
		return fmt.Errorf("vmlinuz: no ELF file inside: %w", err)
	}
	return os.WriteFile(file, vmlinux, 0o644)
}

// selectModules copies the modules the patterns want, and those they depend
// on, uncompressed into a tree with an index of its own, and returns its
// lib/modules.
func (k *kernelFiles) selectModules(ctx context.Context, patterns []string) (string, error) {
	source := k.modulesDir()
	top := strings.TrimSuffix(source, "/lib/modules/"+k.release)
	if err := command(ctx, "", "/sbin/depmod", "-b", top, k.release); err != nil {
		return "", err
	}
	list, err := os.ReadFile(filepath.Join(source, "modules.dep"))
	if err != nil {
		return "", err
	}
	wanted := closure(parseDependencies(list), patterns)
	tree := filepath.Join(k.dir, "selected")
	target := filepath.Join(tree, "lib", "modules", k.release)
	for _, module := range wanted {
		if err := move(filepath.Join(source, module), filepath.Join(target, module)); err != nil {
			return "", err
		}
	}
	for _, index := range []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"} {
		if err := move(filepath.Join(source, index), filepath.Join(target, index)); err != nil {
			return "", err
		}
	}
	if err := decompress(ctx, target); err != nil {
		return "", err
	}
	return filepath.Join(tree, "lib", "modules"), command(ctx, "", "/sbin/depmod", "-b", tree, k.release)
}

func move(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func decompress(ctx context.Context, dir string) error {
	var files []string
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(file, ".xz") {
			files = append(files, file)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		return err
	}
	return command(ctx, dir, "xz", append([]string{"-d", "-T1", "--"}, files...)...)
}

// dependency is a line of modules.dep: a module's file and those it needs.
type dependency struct {
	file  string
	needs []string
}

func parseDependencies(list []byte) []dependency {
	var found []dependency
	lines := bufio.NewScanner(bytes.NewReader(list))
	for lines.Scan() {
		file, needs, ok := strings.Cut(lines.Text(), ":")
		if ok {
			found = append(found, dependency{file: file, needs: strings.Fields(needs)})
		}
	}
	return found
}

// closure lists the files of the modules the patterns want and of all that
// they need. modules.dep is transitive already.
func closure(all []dependency, patterns []string) []string {
	var files []string
	seen := map[string]bool{}
	add := func(file string) {
		if !seen[file] {
			seen[file] = true
			files = append(files, file)
		}
	}
	for _, d := range all {
		if !matchesAny(patterns, d.file) {
			continue
		}
		add(d.file)
		for _, file := range d.needs {
			add(file)
		}
	}
	return files
}

func matchesAny(patterns []string, file string) bool {
	name := strings.TrimPrefix(file, "kernel/")
	name, _, _ = strings.Cut(name, ".ko")
	for _, pattern := range patterns {
		if below, ok := strings.CutSuffix(pattern, "/**"); ok && strings.HasPrefix(name, below+"/") {
			return true
		}
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}
