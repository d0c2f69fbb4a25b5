package peers

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mooring-project/mooring/test/controlplane"
	"github.com/mooring-project/mooring/test/vm"
)

// Paths in the kernel machine.
const (
	Dir        = "/opt/peers"
	Kubeconfig = Dir + "/kubeconfig"
)

// UpstreamVariable has, in the machine, the API server's address as seen from outside of all
// other namespaces.
const UpstreamVariable = "MOORING_PEERS_API"

// Host is the half that runs beside the machine.
type Host struct {
	Control *controlplane.ControlPlane
	dir     string
	files   map[string]string
}

// Prepare builds the programs of all subjects and of the packages, which are named from the
// repository's root, and starts an API server. The working directory is to be in the
// repository. Stop ends what it started.
func Prepare(ctx context.Context, log io.Writer, packages ...string) (*Host, error) {
	if err := vm.Ensure(ctx); err != nil {
		return nil, err
	}
	bin, err := controlplane.Build(ctx, log, controlplane.Etcd, controlplane.APIServer, controlplane.KubeProxy)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return nil, err
	}
	h := &Host{dir: dir, files: map[string]string{Dir + "/kube-proxy": filepath.Join(bin, controlplane.KubeProxy)}}
	if err := h.prepare(ctx, log, append(packages, "./cmd/mooring-proxy")); err != nil {
		h.Stop()
		return nil, err
	}
	return h, nil
}

func (h *Host) prepare(ctx context.Context, log io.Writer, packages []string) (err error) {
	for _, name := range packages {
		if err := h.build(ctx, log, name); err != nil {
			return err
		}
	}
	h.Control, err = controlplane.Start(ctx, controlplane.Options{
		ServiceCIDR: controlplane.DualStackServiceCIDR, NoControllerManager: true, Log: log,
	})
	if err != nil {
		return err
	}
	file := filepath.Join(h.dir, "kubeconfig")
	h.files[Kubeconfig] = file
	return h.Control.WriteKubeconfig(file, "", controlplane.Admin)
}

// build builds a program, or a package's tests if its name ends in _test.
func (h *Host) build(ctx context.Context, log io.Writer, name string) error {
	root, err := Repository(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(h.dir, filepath.Base(name))
	args := []string{"build", "-o", file, "-trimpath", "-ldflags=-s -w", name}
	if tested, isTest := strings.CutSuffix(name, "_test"); isTest {
		args = []string{"test", "-c", "-o", file, tested}
	}
	build := exec.CommandContext(ctx, "go", args...)
	// Static: the machine has none of the host's libraries.
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = log, log
	if err := build.Run(); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	h.files[Dir+"/"+filepath.Base(name)] = file
	return nil
}

// Spec completes a run in the machine by the programs and the way to the API server.
func (h *Host) Spec(spec vm.Spec) vm.Spec {
	if spec.Files == nil {
		spec.Files = map[string]string{}
	}
	maps.Copy(spec.Files, h.files)
	spec.Network = true
	// The machine's user network has the host's loopback there.
	spec.Env = append(spec.Env, fmt.Sprintf("%s=10.0.2.2:%d", UpstreamVariable, h.Control.Port()))
	return spec
}

// Stop ends the API server and removes what Prepare made.
func (h *Host) Stop() {
	if h.Control != nil {
		h.Control.Stop()
	}
	_ = os.RemoveAll(h.dir) // what is left is in the temporary directory
}

// Repository finds the directory of the module that the working directory is in.
func Repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("the programs are built from source: run this inside the repository")
	}
	return filepath.Dir(mod), nil
}
