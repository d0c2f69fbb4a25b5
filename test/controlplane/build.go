package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// buildEnv makes the binaries static and independent of a go.work file.
var buildEnv = []string{"CGO_ENABLED=0", "GOWORK=off"}

// Build makes sure that the named programs exist in the cache and returns the
// directory that holds them. Without names it builds what Start needs by
// default. What is cached is not built again; several processes may call Build
// at the same time, one of them builds and the others wait for it. Progress
// and the go tool's messages go to log, which may be nil.
//
// The first build downloads some 150 modules and takes minutes per program.
func Build(ctx context.Context, log io.Writer, names ...string) (dir string, err error) {
	b, err := newBuilder(ctx, log, kubernetesSet)
	if err != nil {
		return "", fmt.Errorf("control plane binaries: %w", err)
	}
	chosen, err := selectRecipes(b.recipes, names)
	if err != nil {
		return "", err
	}
	if err := b.build(ctx, chosen); err != nil {
		return "", fmt.Errorf("control plane binaries: %w", err)
	}
	return b.out, nil
}

// BuildNode does the same for what a node runs besides kubelet: containerd with its shim and its
// client, and the network plugins.
func BuildNode(ctx context.Context, log io.Writer) (dir string, err error) {
	b, err := newBuilder(ctx, log, nodeSet)
	if err == nil {
		err = b.build(ctx, b.recipes)
	}
	if err != nil {
		return "", fmt.Errorf("node binaries: %w", err)
	}
	return b.out, nil
}

// KubectlPath returns the path of a kubectl: the one on PATH, else one built.
func KubectlPath(ctx context.Context, log io.Writer) (string, error) {
	if path, err := exec.LookPath(Kubectl); err == nil {
		return path, nil
	}
	dir, err := Build(ctx, log, Kubectl)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, Kubectl), nil
}

// A builder builds programs from one state of the pinning modules.
type builder struct {
	source  string // test/controlplane/binaries
	cache   string // parent of all output directories
	out     string
	product string // the set's name and version
	recipes []recipe
	log     io.Writer
}

func newBuilder(ctx context.Context, log io.Writer, set set) (*builder, error) {
	if log == nil {
		log = io.Discard
	}
	source, err := binariesDir()
	if err != nil {
		return nil, err
	}
	var goMods [][]byte
	for _, module := range set.modules {
		goMod, err := os.ReadFile(filepath.Join(source, module, "go.mod"))
		if err != nil {
			return nil, err
		}
		goMods = append(goMods, goMod)
	}
	version, err := pinnedVersion(goMods[0], set.pin)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(source, set.modules[0], "go.mod"), err)
	}
	target, goVersion, err := goTarget(ctx, source)
	if err != nil {
		return nil, err
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	all := set.recipes(version)
	cache := filepath.Join(user, "mooring", "bin")
	out := filepath.Join(cache, set.prefix+version+"-"+target+"-"+cacheKey(goVersion, all, goMods...))
	return &builder{source: source, cache: cache, out: out, product: set.name + " " + version, recipes: all, log: log}, nil
}

// goTarget asks the go tool that will build, which may be another toolchain
// than the one this program was built with.
func goTarget(ctx context.Context, dir string) (target, version string, err error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOOS", "GOARCH", "GOVERSION")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), buildEnv...)
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("go env: %w", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) != 3 {
		return "", "", fmt.Errorf("go env: unexpected answer %q", out)
	}
	return fields[0] + "-" + fields[1], fields[2], nil
}

// build makes the missing ones among chosen, one at a time under a lock.
func (b *builder) build(ctx context.Context, chosen []recipe) error {
	if len(b.missing(chosen)) == 0 {
		return nil
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	unlock, err := lockFile(ctx, filepath.Join(b.cache, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	for _, r := range b.missing(chosen) {
		if err := b.buildOne(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) missing(chosen []recipe) []recipe {
	var list []recipe
	for _, r := range chosen {
		if _, err := os.Stat(filepath.Join(b.out, r.name)); err != nil {
			list = append(list, r)
		}
	}
	return list
}

// buildOne builds beside the final name and renames, so that a file under its
// final name is always a whole program.
func (b *builder) buildOne(ctx context.Context, r recipe) error {
	fmt.Fprintf(b.log, "building %s for %s\n", r.name, b.product)
	start := time.Now()
	tmp := filepath.Join(b.out, fmt.Sprintf(".%s.%d", r.name, os.Getpid()))
	defer os.Remove(tmp)
	var messages bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-buildvcs=false", "-trimpath",
		"-ldflags", r.ldflags, "-o", tmp, r.pkg)
	cmd.Dir = filepath.Join(b.source, r.module)
	cmd.Env = append(os.Environ(), buildEnv...)
	cmd.Stdout = io.MultiWriter(b.log, &messages)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("go build %s: %w", r.pkg, err), ctx.Err(), errors.New(lastLines(messages.String(), 20)))
	}
	if err := os.Rename(tmp, filepath.Join(b.out, r.name)); err != nil {
		return err
	}
	fmt.Fprintf(b.log, "built %s in %s\n", r.name, time.Since(start).Round(time.Second/10))
	return nil
}
