package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mooring-project/mooring/test/controlplane"
)

// makeImages makes the archives of all images: ours as `make images` does, in two versions, and
// what else the pods run.
func (w *workshop) makeImages(ctx context.Context) error {
	for _, version := range []string{firstVersion, secondVersion} {
		err := w.run(ctx, filepath.Join(w.source, "internal/tools/images"), "go", "run", ".",
			"-source", w.source, "-out", w.in("images", version), "-version", version, "-arch", "amd64")
		if err != nil {
			return err
		}
	}
	if err := w.makeLayers(ctx); err != nil {
		return err
	}
	tools, pod := w.in("tools.tar"), w.in("pod.tar")
	for _, i := range []image{
		{reference: pauseImage, layers: []string{pod}, entrypoint: []string{"/pod", "pause"}},
		{reference: webImage, layers: []string{pod}, entrypoint: []string{"/pod", "web", ":80"}},
		{reference: loadImage, layers: []string{pod}, entrypoint: []string{"/pod", "load"}},
		{reference: busyboxImage, layers: []string{tools}},
		{reference: coreDNSImage, layers: []string{w.in("coredns.tar")}, entrypoint: []string{"/coredns"}},
		{reference: kubeProxyImage, layers: []string{tools, w.in("kube-proxy.tar")}},
	} {
		name := filepath.Base(i.reference)
		if err := i.write(w.in("images", name+".tar")); err != nil {
			return err
		}
	}
	return nil
}

// makeLayers makes the layers of single programs.
func (w *workshop) makeLayers(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", w.in("layers/pod/pod"), "./test/node/cmd/pod")
	build.Dir, build.Env = w.source, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("pod: %w\n%s", err, output)
	}
	err := errors.Join(
		copyFile(filepath.Join(w.kubernetes, controlplane.KubeProxy), w.in("layers/kube-proxy/usr/local/bin/kube-proxy")),
		copyFile(w.coreDNS, w.in("layers/coredns/coredns")),
	)
	if err != nil {
		return err
	}
	for _, name := range []string{"pod", "kube-proxy", "coredns"} {
		if err := writeLayer(w.in(name+".tar"), w.in("layers", name)); err != nil {
			return err
		}
	}
	return nil
}

// importImages imports all archives into the disk's containerd, by one that runs here: unpacking
// takes minutes under emulation. The command is the one that `kind load image-archive` runs.
func (w *workshop) importImages(ctx context.Context) error {
	configuration := w.in("containerd.toml")
	text := fmt.Sprintf("version = 3\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", "+
		"\"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.nri.v1.nri\"]\n[grpc]\naddress = %q\n"+
		"[ttrpc]\naddress = %q\n",
		w.root("var/lib/containerd"), w.in("state"), w.in("containerd.sock"), w.in("containerd.sock.ttrpc"))
	if err := os.WriteFile(configuration, []byte(text), 0o644); err != nil {
		return err
	}
	log, err := os.Create(w.in("containerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	daemon := exec.CommandContext(ctx, filepath.Join(w.containerd, "containerd"), "--config", configuration)
	daemon.Stdout, daemon.Stderr = log, log
	daemon.Cancel = func() error { return daemon.Process.Signal(os.Interrupt) }
	if err := daemon.Start(); err != nil {
		return err
	}
	stop := func() error {
		_ = daemon.Process.Signal(os.Interrupt) // it may be gone already
		return daemon.Wait()
	}
	if err := w.importInto(ctx); err != nil {
		_ = stop() // the first error says more
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w; containerd said:\n%s", err, said)
	}
	return stop()
}

func (w *workshop) importInto(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	ctr := func(args ...string) *exec.Cmd {
		args = append([]string{"--address", w.in("containerd.sock"), "--namespace=k8s.io"}, args...)
		return exec.CommandContext(ctx, filepath.Join(w.containerd, "ctr"), args...)
	}
	for ctr("version").Run() != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	archives, err := filepath.Glob(w.in("images", "*.tar"))
	if err != nil {
		return err
	}
	ours, err := filepath.Glob(w.in("images", "*", "*.tar"))
	if err != nil {
		return err
	}
	for _, archive := range append(archives, ours...) {
		in, err := os.Open(archive)
		if err != nil {
			return err
		}
		load := ctr("images", "import", "--all-platforms", "--digests", "--snapshotter=overlayfs", "-")
		load.Stdin = in
		output, err := load.CombinedOutput()
		in.Close()
		if err != nil {
			return fmt.Errorf("import of %s: %w\n%s", filepath.Base(archive), err, output)
		}
		fmt.Fprintf(w.log, "%s", output)
	}
	return nil
}
