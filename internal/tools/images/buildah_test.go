package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// TestDockerfileGivesTheSameImages builds the Dockerfile as it stands, by a builder that needs no
// daemon. The image it begins with is made here, so that nothing is pulled: Debian, with the
// packages that the Dockerfile relies on, and the Go toolchain at hand.
func TestDockerfileGivesTheSameImages(t *testing.T) {
	if os.Getenv("MOORING_NODE") == "" {
		t.Skip("installs a builder of images and a Debian; `make test-node` runs it (MOORING_NODE=1)")
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	install(t, "buildah", "mmdebstrap")
	source, directory := copySource(t.Context(), t), t.TempDir()
	buildah := func(t *testing.T, args ...string) string {
		t.Helper()
		store := []string{"--storage-driver=vfs", "--root=" + filepath.Join(directory, "images"), "--runroot=" + filepath.Join(directory, "run")}
		return command(t, "buildah", append(store, args...)...)
	}
	makeBase(t, buildah, directory)
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			o := order{recipe: r, source: source, version: "v1.2.3", architecture: runtime.GOARCH}
			reference, archive := o.reference(o.version), filepath.Join(directory, r.name+".tar")
			buildah(t, "build", "--isolation=chroot", "--pull=never", "--layers=false", "--target="+r.name, "--build-arg=VERSION="+o.version,
				// What has been fetched and built is not fetched and built anew.
				"--volume="+goEnvironment(t, "GOMODCACHE")+":/go/pkg/mod", "--volume="+goEnvironment(t, "GOCACHE")+":/root/.cache/go-build",
				"--tag="+reference, source)
			buildah(t, "push", reference, "docker-archive:"+archive+":"+reference)
			built, err := tarball.ImageFromPath(archive, nil)
			if err != nil {
				t.Fatal(err)
			}
			own := filepath.Join(directory, "own.tar")
			if _, err := build(t.Context(), o, own); err != nil {
				t.Fatal(err)
			}
			// The same reader takes our archive in both of its formats.
			for _, format := range []string{"oci-archive:", "docker-archive:"} {
				buildah(t, "pull", "--quiet", format+own)
			}
			made, err := tarball.ImageFromPath(own, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(describe(t, made, r), describe(t, built, r)); diff != "" {
				t.Errorf("-make images +Dockerfile:\n%s", diff)
			}
		})
	}
}

// install installs Debian's packages of programs that are missing.
func install(t *testing.T, programs ...string) {
	t.Helper()
	missing := slices.DeleteFunc(programs, func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	})
	if len(missing) > 0 {
		command(t, "apt-get", "update")
		command(t, "apt-get", append([]string{"install", "-y"}, missing...)...)
	}
}

// makeBase makes the image that the Dockerfile begins with.
func makeBase(t *testing.T, buildah func(*testing.T, ...string) string, directory string) {
	t.Helper()
	var reference string
	for _, i := range dockerfile(t) {
		if words := strings.Fields(i.rest); i.name == "FROM" && i.stage == "build" {
			reference = words[len(words)-3] // before AS build
		}
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	_, codename, _ := strings.Cut(string(release), "VERSION_CODENAME=")
	codename, _, _ = strings.Cut(codename, "\n")
	debian := filepath.Join(directory, "debian.tar")
	command(t, "mmdebstrap", "--variant=apt", "--include=ca-certificates,git,make", codename, debian)
	container := strings.TrimSpace(buildah(t, "from", "scratch"))
	buildah(t, "add", "--quiet", container, debian, "/")
	buildah(t, "copy", "--quiet", container, goEnvironment(t, "GOROOT"), "/usr/local/go")
	buildah(t, "config", "--env=GOPATH=/go", "--env=GOTOOLCHAIN=local",
		"--env=PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
	buildah(t, "commit", "--quiet", "--rm", container, "docker.io/library/"+reference)
}

// describe tells what an image holds, and how it runs: of the certificates only that there are some.
func describe(t *testing.T, image v1.Image, r recipe) []string {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{fmt.Sprintf("%s/%s user %s environment %q entry point %q", config.OS, config.Architecture, config.Config.User, config.Config.Env, config.Config.Entrypoint)}
	content := mutate.Extract(image)
	defer content.Close()
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(header.Name, "/")
		what := fmt.Sprintf("%x", sha256.Sum256(text))
		switch {
		case strings.HasSuffix(name, "ca-certificates.crt"):
			what = fmt.Sprintf("certificates: %t", bytes.Contains(text, []byte("BEGIN CERTIFICATE")))
		case !slices.Contains(r.programs, name):
			continue
		}
		lines = append(lines, fmt.Sprintf("%s of %d:%d mode %o capabilities %q %s", name, header.Uid, header.Gid, header.Mode&0o7777,
			header.PAXRecords["SCHILY.xattr.security.capability"], what))
	}
	slices.Sort(lines)
	return lines
}

func goEnvironment(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(command(t, "go", "env", name))
}

// command runs a program and gives what it prints.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	var problems bytes.Buffer
	c := exec.CommandContext(t.Context(), name, args...)
	c.Stderr = &problems
	output, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, output, &problems)
	}
	return string(output)
}
