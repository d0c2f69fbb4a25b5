package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadRunbook(t *testing.T) {
	const text = "# Title\n\nWords, `code`.\n\n    indented, an example\n\n## One\n\n```sh\na\nb\n```\n\nThen:\n\n```sh\nc\n```\n\n```text\nd\n```\n\n## No commands\n\nWords.\n"
	path := filepath.Join(t.TempDir(), "runbook.md")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	steps, err := readRunbook(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []step{{heading: "One", commands: []string{"a\nb\n", "c\n"}}}
	if diff := cmp.Diff(want, steps, cmp.AllowUnexported(step{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for what, text := range map[string]string{"no end": "## One\n```sh\na\n", "no language": "## One\n```\na\n```\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readRunbook(path); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
