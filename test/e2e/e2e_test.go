// Package e2e plays the demo's story as a test: real programs on a real kernel, with a
// real control plane and without one.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/demo"
	"github.com/mooring-project/mooring/test/story"
)

// play plays a story and returns its exit status and what it printed, which the test's
// log has too.
func play(t *testing.T, options demo.Options) (status int, told string) {
	t.Helper()
	if testing.Short() {
		t.Skip("the story takes a minute; run without -short")
	}
	var out bytes.Buffer
	options.BinDir = os.Getenv("MOORING_BIN")
	options.Stdout, options.Stderr = &out, t.Output()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	status, err := demo.Run(ctx, options)
	t.Logf("%s", out.String())
	if err != nil {
		if errors.Is(err, demo.ErrPrerequisite) && os.Getenv("CI") != "true" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	return status, out.String()
}

func checkWholeStory(t *testing.T, status int, told string) {
	t.Helper()
	if status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	for i := range story.Steps {
		if mark := fmt.Sprintf("\nstep %d: ok", i+1); !strings.Contains(told, mark) {
			t.Errorf("no mark %q", strings.TrimSpace(mark))
		}
	}
	if strings.Contains(told, "FAILED") {
		t.Error("something FAILED")
	}
}

func TestStoryManifests(t *testing.T) {
	status, told := play(t, demo.Options{Source: demo.Manifests})
	checkWholeStory(t, status, told)
	checkReadme(t, told)
}

// checkReadme finds each mark of the README's transcript in what was told.
func checkReadme(t *testing.T, told string) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, transcript, _ := strings.Cut(string(readme), "```text\n")
	transcript, _, found := strings.Cut(transcript, "```")
	marks := 0
	for line := range strings.Lines(transcript) {
		if mark := strings.TrimRight(line, "\n"); strings.HasPrefix(mark, "  ok: ") {
			marks++
			if !strings.Contains(told, "\n"+mark) {
				t.Errorf("README.md shows the mark %q, which the story did not tell", mark)
			}
		}
	}
	if !found || marks == 0 {
		t.Error("README.md has no transcript with marks")
	}
}

func TestStoryKubernetes(t *testing.T) {
	status, told := play(t, demo.Options{Source: demo.Kubernetes})
	checkWholeStory(t, status, told)
}

// The story has to notice when a half of Mooring does not work.
func TestStoryFailsWithout(t *testing.T) {
	for _, c := range []struct {
		name    string
		options demo.Options
		want    string
	}{
		{"mooring-proxy", demo.Options{Source: demo.Manifests, NoProxy: true, Steps: []int{2}, Patience: 20 * time.Second}, "\nstep 2: FAILED"},
		{"mooring-dns", demo.Options{Source: demo.Manifests, NoDNS: true, Steps: []int{1}, Patience: 20 * time.Second}, "\nstep 1: FAILED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, told := play(t, c.options)
			if status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			if !strings.Contains(told, c.want) {
				t.Errorf("no mark %q", strings.TrimSpace(c.want))
			}
		})
	}
}
