package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What runs in the lab: the programs of Mooring and the lab's own.
var (
	mooringPrograms = []string{"mooring-dns", "mooring-proxy", "mooringctl"}
	labPackage      = "./test/lab/cmd/lab"
)

// build builds what runs in the lab into the repository's .build, where only what has
// changed is built again, and returns the programs by name. Those of Mooring are taken
// from binDir if that is not empty. The working directory is to be in the repository.
func build(ctx context.Context, binDir string, log io.Writer) (map[string]string, error) {
	root, err := repository(ctx)
	if err != nil {
		return nil, err
	}
	built := filepath.Join(root, ".build", "demo")
	packages := []string{labPackage}
	if binDir == "" {
		binDir = built
		for _, program := range mooringPrograms {
			packages = append(packages, "./cmd/"+program)
		}
	}
	if err := goBuild(ctx, root, built, packages, log); err != nil {
		return nil, err
	}
	files := map[string]string{"lab": filepath.Join(built, "lab")}
	for _, program := range mooringPrograms {
		files[program] = filepath.Join(binDir, program)
	}
	return files, nil
}

func goBuild(ctx context.Context, root, output string, packages []string, log io.Writer) error {
	if err := os.MkdirAll(output, 0o755); err != nil {
		return err
	}
	fmt.Fprintln(log, "Building the programs ...")
	// Static: the machine has none of the host's libraries.
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", output + "/"}, packages...)
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	build.Stdout, build.Stderr = log, log
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	return nil
}

// repository finds the directory of the module that we are in.
func repository(ctx context.Context) (string, error) {
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
