package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/controlplane"
	"github.com/mooring-project/mooring/test/lab"
	"github.com/mooring-project/mooring/test/vm"
)

// A Source is where the cluster's objects live.
type Source string

// The sources of the story.
const (
	Manifests  Source = "manifests"  // a directory of YAML
	Kubernetes Source = "kubernetes" // etcd, kube-apiserver and kube-controller-manager
)

// Options say how to play the story.
type Options struct {
	Source Source
	// BinDir holds mooring-dns, mooring-proxy and mooringctl, static; empty means that
	// they are built first.
	BinDir string
	// Steps are the numbers of the steps to play, none for all.
	Steps []int
	// Patience is how long a change may take to be seen; the story's own if 0.
	Patience time.Duration
	// NoProxy and NoDNS leave a half of Mooring out, so that the story must fail.
	NoProxy, NoDNS bool
	// Timeout bounds the story, 5 minutes by default.
	Timeout time.Duration
	// Stdout receives the story, Stderr what is said about its preparation.
	Stdout, Stderr io.Writer
}

const defaultTimeout = 5 * time.Minute

// guestDir is where the programs are for the machine.
const guestDir = "/opt/mooring"

// Run prepares what is needed, plays the story and returns its exit status: 0 when
// every answer was right. An error means that the story could not be played. The end of
// ctx ends everything; nothing is left but the built programs.
func Run(ctx context.Context, options Options) (status int, err error) {
	if options.Source != Manifests && options.Source != Kubernetes {
		return -1, fmt.Errorf("demo: source %q: use %s or %s", options.Source, Manifests, Kubernetes)
	}
	files, err := build(ctx, options.BinDir, options.Stderr)
	if err != nil {
		return -1, fmt.Errorf("demo: %w", err)
	}
	if err := options.prepare(ctx); err != nil {
		return -1, fmt.Errorf("demo: %w: %w", ErrPrerequisite, err)
	}
	dir, err := os.MkdirTemp("", "mooring-demo-")
	if err != nil {
		return -1, fmt.Errorf("demo: %w", err)
	}
	defer os.RemoveAll(dir)
	spec := options.spec(files)
	if options.Source == Kubernetes {
		control, err := startControlPlane(ctx, options.Stderr, dir)
		if err != nil {
			return -1, fmt.Errorf("demo: %w", err)
		}
		defer control.Stop()
		spec = withAPI(spec, dir, control.Port())
	}
	options.say("Starting the kernel machine ...")
	return vm.Run(ctx, spec)
}

// ErrPrerequisite is in the error when the story could not be played because this
// machine lacks something, which the rest of the error says how to get.
var ErrPrerequisite = errors.New("prerequisite")

// prepare makes sure of the kernel machine and the control plane's programs.
func (o Options) prepare(ctx context.Context) error {
	if err := vm.Ensure(ctx); err != nil {
		return err
	}
	if o.Source != Kubernetes {
		return nil
	}
	_, err := controlplane.Build(ctx, o.Stderr)
	return err
}

func (o Options) say(what string) { fmt.Fprintln(o.Stderr, what) }

// spec is the run of the story from manifests with programs by name.
func (o Options) spec(files map[string]string) vm.Spec {
	spec := vm.Spec{
		// Debian's libc-bin has getent everywhere; the machine's root has not.
		Files:   map[string]string{guestDir + "/getent": "/usr/bin/getent"},
		Argv:    []string{guestDir + "/lab", "story"},
		Stdout:  o.Stdout,
		Stderr:  o.Stderr,
		Timeout: o.Timeout,
	}
	if spec.Timeout == 0 {
		spec.Timeout = defaultTimeout
	}
	for name, file := range files {
		spec.Files[guestDir+"/"+name] = file
	}
	if o.NoProxy {
		spec.Argv = append(spec.Argv, "--no-proxy")
	}
	if o.NoDNS {
		spec.Argv = append(spec.Argv, "--no-dns")
	}
	if o.Patience > 0 {
		spec.Argv = append(spec.Argv, "--patience="+o.Patience.String())
	}
	if len(o.Steps) > 0 {
		spec.Argv = append(spec.Argv, "--steps="+joinNumbers(o.Steps))
	}
	return spec
}

func joinNumbers(numbers []int) string {
	var words []string
	for _, n := range numbers {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}

const (
	kubeconfigFile = "kubeconfig"
	// hostAddress is the host's loopback as the machine reaches it.
	hostAddress = "10.0.2.2"
)

// startControlPlane starts a control plane whose default/kubernetes Service has its
// endpoint in the lab, and writes a kubeconfig for the lab into dir.
func startControlPlane(ctx context.Context, log io.Writer, dir string) (*controlplane.ControlPlane, error) {
	fmt.Fprintln(log, "Starting the control plane ...")
	control, err := controlplane.Start(ctx, controlplane.Options{Log: log, AdvertiseAddress: lab.RelayAddress})
	if err != nil {
		return nil, err
	}
	server := fmt.Sprintf("https://%s:%d", lab.RelayAddress, control.Port())
	if err := control.WriteKubeconfig(filepath.Join(dir, kubeconfigFile), server, controlplane.Admin); err != nil {
		control.Stop()
		return nil, err
	}
	return control, nil
}

// withAPI has the story work with the API server on the host's loopback.
func withAPI(spec vm.Spec, dir string, port uint16) vm.Spec {
	guest := guestDir + "/" + kubeconfigFile
	spec.Network = true
	spec.Files[guest] = filepath.Join(dir, kubeconfigFile)
	spec.Argv = append(spec.Argv, fmt.Sprintf("--api-server=%s:%d", hostAddress, port), "--kubeconfig="+guest)
	return spec
}
