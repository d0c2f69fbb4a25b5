package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// An instruction is one of the Dockerfile, in its stage.
type instruction struct{ stage, name, rest string }

// dockerfile reads the repository's Dockerfile: one instruction a line, none continued.
func dockerfile(t *testing.T) []instruction {
	text, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var all []instruction
	stage := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasSuffix(line, `\`) {
			t.Fatalf("%q: a continued line is not read by this test", line)
		}
		name, rest, _ := strings.Cut(line, " ")
		if name == "FROM" {
			_, stage, _ = strings.Cut(rest, " AS ")
		}
		all = append(all, instruction{stage, name, rest})
	}
	return all
}

// What the Dockerfile says of the images is compared with the recipes in every run, and
// TestCommandsOfTheDockerfile runs its commands; TestDockerfileGivesTheSameImages builds it.
func TestDockerfileDescribesTheSameImages(t *testing.T) {
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			var programs, capabilities []string
			user, entrypoint := "", ""
			for _, i := range dockerfile(t) {
				switch {
				case i.stage == "build" && i.name == "RUN" && strings.HasPrefix(i.rest, "setcap ") && strings.HasSuffix(i.rest, "/"+r.programs[0]):
					capabilities = append(capabilities, strings.Fields(i.rest)[1])
				case i.stage != r.name:
				case i.name == "USER":
					user = i.rest
				case i.name == "ENTRYPOINT":
					var words []string
					if err := json.Unmarshal([]byte(i.rest), &words); err != nil {
						t.Errorf("%s %s: %v", i.name, i.rest, err)
					}
					entrypoint = strings.Join(words, " ")
				case i.name == "COPY":
					words := strings.Fields(i.rest)
					for _, source := range words[1 : len(words)-1] {
						if strings.HasPrefix(source, "/source/bin/") {
							programs = append(programs, path.Base(source))
						}
					}
				}
			}
			if user != r.user || entrypoint != "/"+r.programs[0] || !slices.Equal(programs, r.programs) {
				t.Errorf("user %q, entry point %q, programs %q; the recipe is %+v", user, entrypoint, programs, r)
			}
			if wanted := len(r.capabilities) > 0; wanted != slices.Equal(capabilities, []string{"cap_net_bind_service=+ep"}) || !wanted && len(capabilities) > 0 {
				t.Errorf("file capabilities %q; the recipe is %+v", capabilities, r)
			}
		})
	}
}

// copySource copies what git knows of the repository, changes included, to a directory elsewhere.
func copySource(ctx context.Context, t *testing.T) string {
	target := t.TempDir()
	list := exec.CommandContext(ctx, "git", "-C", "../../..", "ls-files", "-z")
	output, err := list.Output()
	if err != nil {
		t.Skipf("git ls-files: %v: the copy of the source needs a checkout", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(output), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join("../../..", name))
		if os.IsNotExist(err) {
			continue // deleted and not committed
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(target, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return target
}

func TestCommandsOfTheDockerfile(t *testing.T) {
	if testing.Short() {
		t.Skip("links every program: left out by -short")
	}
	source := copySource(t.Context(), t)
	ran := 0
	for _, i := range dockerfile(t) {
		if i.name != "RUN" || strings.HasPrefix(i.rest, "apt-get ") {
			continue // packages are the base image's
		}
		if _, err := exec.LookPath("setcap"); err != nil && strings.HasPrefix(i.rest, "setcap ") {
			t.Logf("no setcap here, in Debian's package libcap2-bin: %q is not run", i.rest)
			continue
		}
		ran++
		command := exec.CommandContext(t.Context(), "/bin/sh", "-c", i.rest)
		command.Dir = source
		command.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH, "VERSION=v1.2.3")
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("RUN %s: %v\n%s", i.rest, err, output)
		}
	}
	if ran == 0 {
		t.Fatal("no command was run")
	}
	for _, r := range recipes {
		for _, program := range r.programs {
			ask := "--version"
			if program == "mooringctl" {
				ask = "version"
			}
			output, err := exec.CommandContext(t.Context(), filepath.Join(source, "bin", program), ask).CombinedOutput()
			if err != nil || !strings.Contains(string(output), "v1.2.3") {
				t.Errorf("%s %s: %v\n%s", program, ask, err, output)
			}
		}
	}
}
