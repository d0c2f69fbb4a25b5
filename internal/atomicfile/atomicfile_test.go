package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAFileIsReplacedAsAWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	interrupted := errors.New("interrupted")
	for _, step := range []struct {
		name, text, want string
		durable          bool
		err              error
	}{
		{"the first", "one", "one", true, nil},
		{"another in its place", "other", "other", false, nil},
		{"one that cannot be finished", "half", "other", true, interrupted},
		{"an empty one", "", "", true, nil},
	} {
		octets, err := Write(path, step.durable, func(w io.Writer) error {
			_, err := io.WriteString(w, step.text)
			return errors.Join(err, step.err)
		})
		if !errors.Is(err, step.err) || err == nil && octets != int64(len(step.text)) {
			t.Errorf("%s: %d octets, error %v, want %v", step.name, octets, err, step.err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != step.want {
			t.Errorf("%s: the file holds %q, error %v, want %q", step.name, text, err, step.want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, error %v", step.name, info.Mode(), err)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
			t.Errorf("%s: in the directory are %v, error %v", step.name, left, err)
		}
	}
	if _, err := Write(filepath.Join(path, "x"), false, func(io.Writer) error { return nil }); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file below a file: error %v", err)
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "snapshot")
	now := time.Now()
	for name, age := range map[string]time.Duration{".snapshot.1.tmp": time.Hour, ".snapshot.2.tmp": time.Minute, ".other.1.tmp": time.Hour, "snapshot": time.Hour} {
		at := filepath.Join(directory, name)
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(at, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	RemoveLeftovers(path, now)
	left, err := os.ReadDir(directory)
	if err != nil || len(left) != 3 {
		t.Errorf("left: %v %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(directory, ".snapshot.1.tmp")); err == nil {
		t.Error("an old leftover is still there")
	}
}
