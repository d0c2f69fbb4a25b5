package node

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mooring-project/mooring/test/controlplane"
	"github.com/mooring-project/mooring/test/vm"
)

//go:embed guest
var guestFiles embed.FS

// The tags of our images: two versions of one source.
const (
	firstVersion  = "dev" // as the manifests of deploy/ say
	secondVersion = "next"
)

// References of the other images.
const (
	pauseImage     = "localhost/pause:test"
	webImage       = "localhost/web:test"
	loadImage      = "localhost/load:test"
	busyboxImage   = "docker.io/library/busybox:latest"
	kubeProxyImage = "registry.k8s.io/kube-proxy:v1.37.2"
	coreDNSImage   = "registry.k8s.io/coredns/coredns:v1.15.0"
)

// A workshop is where the disk is made.
type workshop struct {
	// source is the repository, dir the working directory, which the caller removes.
	source, dir string
	log         io.Writer
	// kubernetes and containerd are the directories of their programs, coreDNS is stock CoreDNS.
	kubernetes, containerd, coreDNS string
}

// diskFile is the disk in the workshop's directory.
const diskFile = "node.img"

// prepare builds everything that needs a network or is not of one cluster alone, up to the disk.
func prepare(ctx context.Context, source, dir string, log io.Writer) error {
	w := &workshop{source: source, dir: dir, log: log}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"packages", func(ctx context.Context) error { return vm.Install(ctx, "cpio", "e2fsprogs", "iproute2", "runc") }},
		{"programs", w.buildPrograms},
		{"root", w.makeRoot},
		{"images", w.makeImages},
		{"import", w.importImages},
		{"disk", w.makeDisk},
	} {
		fmt.Fprintf(log, "node: %s\n", step.name)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("node: %s: %w", step.name, err)
		}
	}
	return nil
}

func (w *workshop) in(names ...string) string {
	return filepath.Join(append([]string{w.dir}, names...)...)
}

func (w *workshop) root(names ...string) string {
	return w.in(append([]string{"root"}, names...)...)
}

func (w *workshop) buildPrograms(ctx context.Context) (err error) {
	w.kubernetes, err = controlplane.Build(ctx, w.log, controlplane.Etcd, controlplane.APIServer, controlplane.ControllerManager,
		controlplane.Scheduler, controlplane.Kubelet, controlplane.KubeProxy, controlplane.Kubectl)
	if err != nil {
		return err
	}
	if w.containerd, err = controlplane.BuildNode(ctx, w.log); err != nil {
		return err
	}
	return w.buildStock(ctx)
}

// buildStock builds CoreDNS as its release is, where `make bench-dns` keeps it too.
func (w *workshop) buildStock(ctx context.Context) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	_, version, _ := strings.Cut(coreDNSImage, ":v")
	directory := filepath.Join(cache, "mooring", "stock", version)
	w.coreDNS = filepath.Join(directory, "coredns")
	if _, err := os.Stat(w.coreDNS); err == nil {
		return nil
	}
	install := exec.CommandContext(ctx, "go", "install", "-trimpath", "-ldflags", "-s -w", "github.com/coredns/coredns@v"+version)
	install.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+directory)
	if output, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("stock CoreDNS: %w\n%s", err, output)
	}
	return nil
}

// makeRoot makes the node's root directory: that of the kernel machine, and what makes it a node.
func (w *workshop) makeRoot(ctx context.Context) error {
	base, err := vm.Base(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(w.root(), 0o755); err != nil {
		return err
	}
	archive, err := os.Open(base)
	if err != nil {
		return err
	}
	defer archive.Close()
	unpack := exec.CommandContext(ctx, "cpio", "--extract", "--make-directories", "--quiet")
	unpack.Dir, unpack.Stdin = w.root(), archive
	if output, err := unpack.CombinedOutput(); err != nil {
		return fmt.Errorf("cpio: %w\n%s", err, output)
	}
	if err := errors.Join(os.RemoveAll(w.root("init")), os.RemoveAll(w.root("vm"))); err != nil {
		return err
	}
	// The images that have these tools get them before the node's own programs come along.
	if err := writeLayer(w.in("tools.tar"), w.root(), "usr/lib/modules", "dev", "proc", "sys", "run"); err != nil {
		return err
	}
	return errors.Join(w.addPrograms(), w.addConfiguration())
}

func (w *workshop) addPrograms() error {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	files, err := vm.WithLibraries(runc)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := copyFile(file, w.root(file)); err != nil {
			return err
		}
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		if err := copyFile(filepath.Join(w.containerd, name), w.root("usr/local/bin", name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"host-local", "loopback", "ptp"} {
		if err := copyFile(filepath.Join(w.containerd, name), w.root("opt/cni/bin", name)); err != nil {
			return err
		}
	}
	return copyFile(filepath.Join(w.kubernetes, controlplane.Kubelet), w.root("usr/local/bin/kubelet"))
}

func (w *workshop) addConfiguration() error {
	var all error
	for _, f := range []struct{ from, to string }{
		{"containerd.toml", "etc/containerd/config.toml"},
		{"kubelet.yaml", "etc/kubernetes/kubelet.yaml"},
	} {
		text, err := guestFiles.ReadFile("guest/" + f.from)
		all = errors.Join(all, err, os.MkdirAll(filepath.Dir(w.root(f.to)), 0o755), os.WriteFile(w.root(f.to), text, 0o644))
	}
	return all
}

// copyFile copies a program, and keeps a file that is there already.
func copyFile(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// makeDisk puts the root on a disk. It needs no journal, since nobody mounts it a second time.
func (w *workshop) makeDisk(ctx context.Context) error {
	return w.run(ctx, w.dir, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-E", "lazy_itable_init=1",
		"-d", w.root(), w.in(diskFile), "4G")
}

// run runs a program and puts what it printed into the error.
func (w *workshop) run(ctx context.Context, dir, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, output)
	}
	return nil
}
