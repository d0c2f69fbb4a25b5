package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listing parses a newc archive the way the kernel does: "mode name content".
func listing(t *testing.T, archive []byte) []string {
	t.Helper()
	var entries []string
	for offset := 0; offset < len(archive); {
		header := archive[offset:]
		if !bytes.HasPrefix(header, []byte("070701")) {
			t.Fatalf("no header at %d", offset)
		}
		field := func(i int) int {
			v, err := strconv.ParseUint(string(header[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatalf("header field %d at %d: %v", i, offset, err)
			}
			return int(v)
		}
		mode, size, major, minor, nameSize := field(1), field(6), field(9), field(10), field(11)
		name := string(header[110 : 110+nameSize-1])
		data := (offset + 110 + nameSize + 3) &^ 3
		content := strconv.Quote(string(archive[data : data+size]))
		if major != 0 {
			content = fmt.Sprintf("%d:%d", major, minor)
		}
		entries = append(entries, fmt.Sprintf("%06o %s %s", mode, name, content))
		offset = (data + size + 3) &^ 3
	}
	return entries
}

func TestArchive(t *testing.T) {
	host := t.TempDir()
	write(t, filepath.Join(host, "tree/sub/odd"), "abc", 0o600)
	write(t, filepath.Join(host, "tree/tool"), "#!", 0o755)
	if err := os.Symlink("tool", filepath.Join(host, "tree/alias")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("tree", filepath.Join(host, "top")); err != nil {
		t.Fatal(err)
	}
	header := func(mode, name, content string) string { return mode + " " + name + " " + strconv.Quote(content) }
	trailer := header("000000", "TRAILER!!!", "")
	for _, test := range []struct {
		name string
		fill func(*archive)
		want []string
	}{
		{"nothing", func(*archive) {}, []string{trailer}},
		{"a file makes its parents once", func(a *archive) {
			a.file("/etc/x/one", 0o644, []byte("1"))
			a.file("/etc/x/two", 0o600, []byte("22222"))
		}, []string{
			header("040755", "etc", ""), header("040755", "etc/x", ""),
			header("100644", "etc/x/one", "1"), header("100600", "etc/x/two", "22222"), trailer,
		}},
		{"the first of two files of one name stays", func(a *archive) {
			a.symlink("/sh", "bash")
			a.file("/sh", 0o755, []byte("other"))
		}, []string{header("120777", "sh", "bash"), trailer}},
		{"bin and lib are links into usr", func(a *archive) {
			a.symlink("/bin", "usr/bin")
			a.file("/bin/tool", 0o755, nil)
			a.file("/lib/x.so", 0o644, nil)
		}, []string{
			header("120777", "bin", "usr/bin"), header("040755", "usr", ""), header("040755", "usr/bin", ""),
			header("100755", "usr/bin/tool", ""), header("040755", "usr/lib", ""), header("100644", "usr/lib/x.so", ""), trailer,
		}},
		{
			"tmp stays open to all", func(a *archive) { a.file("/tmp/f", 0o644, nil) },
			[]string{header("041777", "tmp", ""), header("100644", "tmp/f", ""), trailer},
		},
		{
			"device", func(a *archive) { a.device("/console", 5, 1) },
			[]string{"020600 console 5:1", trailer},
		},
		{"the root itself needs no entry", func(a *archive) { a.directory("/") }, []string{trailer}},
		{
			"a folder behind a link, with a link inside", func(a *archive) { a.tree("/opt", filepath.Join(host, "top")) },
			[]string{
				header("040755", "opt", ""), header("120777", "opt/alias", "tool"), header("040755", "opt/sub", ""),
				header("100600", "opt/sub/odd", "abc"), header("100755", "opt/tool", "#!"), trailer,
			},
		},
		{
			"a single file under another name", func(a *archive) { a.tree("/run-me", filepath.Join(host, "tree/tool")) },
			[]string{header("100755", "run-me", "#!"), trailer},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			a := newArchive(&out)
			test.fill(a)
			if err := a.close(); err != nil {
				t.Fatal(err)
			}
			if out.Len()%4 != 0 {
				t.Errorf("archive of %d bytes is not padded", out.Len())
			}
			if diff := cmp.Diff(test.want, listing(t, out.Bytes())); diff != "" {
				t.Errorf("archive (-want +got):\n%s", diff)
			}
		})
	}
}

func TestArchiveKeepsTheFirstError(t *testing.T) {
	a := newArchive(&bytes.Buffer{})
	a.copy("/x", filepath.Join(t.TempDir(), "absent"))
	a.file("/y", 0o644, nil)
	if err := a.close(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("got %v, want that absent does not exist", err)
	}
}

func write(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
