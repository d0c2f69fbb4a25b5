package vm

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestImageDependency(t *testing.T) {
	for _, test := range []struct{ name, depends, want string }{
		{"current image", "linux-image-6.12-cloud-amd64\n  Depends: linux-image-6.12.9+deb12-cloud-amd64\n", "linux-image-6.12.9+deb12-cloud-amd64"},
		{"among others", "x\n  Depends: <base>\n  Depends: linux-image-7-amd64\n  Breaks: y\n", "linux-image-7-amd64"},
		{"suggested only", "x\n  Suggests: linux-image-7-amd64\n", ""},
		{"unknown package", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := imageDependency(test.depends)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestModuleClosure(t *testing.T) {
	all := parseDependencies([]byte(`kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/lib/libcrc32c.ko.xz:
kernel/net/netfilterx/no.ko.xz:
kernel/drivers/net/veth.ko.xz:
kernel/drivers/net/vethx.ko.xz:
`))
	want := []string{
		"kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz", "kernel/net/netfilter/ipvs/ip_vs.ko.xz",
		"kernel/lib/libcrc32c.ko.xz", "kernel/drivers/net/veth.ko.xz",
	}
	if diff := cmp.Diff(want, closure(all, []string{"net/netfilter/**", "drivers/net/veth"})); diff != "" {
		t.Errorf("closure (-want +got):\n%s", diff)
	}
}

func TestRecipeKeyFollowsVersions(t *testing.T) {
	one := recipeKey(map[string]string{"nftables": "1.0", "ipvsadm": "1.31"})
	if again := recipeKey(map[string]string{"ipvsadm": "1.31", "nftables": "1.0"}); again != one {
		t.Errorf("same versions: %s and %s", one, again)
	}
	if other := recipeKey(map[string]string{"ipvsadm": "1.31", "nftables": "1.1"}); other == one {
		t.Errorf("other versions have the same key %s", one)
	}
}

// The description must survive bash, whatever the words are.
func TestDescribeReadsBackInBash(t *testing.T) {
	spec := Spec{
		Argv: []string{"sh", "-c", "it's \"$HOME\" `x` \\ \n*", "", " "},
		Env:  []string{"A=b c'd"},
		Dir:  "/with space",
	}
	if err := spec.complete(); err != nil {
		t.Fatal(err)
	}
	script := describe(spec) + `printf '%s\0' "${argv[@]}" "${environment[@]:2}" "$dir" "$network" "$merged" "${#collect[@]}"`
	out, err := exec.Command("bash", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := append(append([]string{}, spec.Argv...), "A=b c'd", "/with space", "", "yes", "0", "")
	if diff := cmp.Diff(want, strings.Split(string(out), "\x00")); diff != "" {
		t.Errorf("words (-want +got):\n%s", diff)
	}
}

func TestSpecRefusals(t *testing.T) {
	for _, test := range []struct {
		name string
		spec Spec
		want string
	}{
		{"no command", Spec{}, "no command to run"},
		{"relative folder", Spec{Argv: []string{"x"}, Dir: "a"}, `path "a" is not absolute`},
		{"relative file", Spec{Argv: []string{"x"}, Files: map[string]string{"b": "/b"}}, `path "b" is not absolute`},
		{"relative collected file", Spec{Argv: []string{"x"}, Collect: map[string]string{"c": "/c"}}, `path "c" is not absolute`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Run(t.Context(), test.spec); err == nil || err.Error() != "vm: "+test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestChooseRefusesUnknownKernel(t *testing.T) {
	t.Setenv("MOORING_KERNEL", "bsd")
	if _, _, err := Choose(); err == nil || !strings.Contains(err.Error(), "want host or qemu") {
		t.Errorf("got %v", err)
	}
}

func TestReceive(t *testing.T) {
	host := t.TempDir()
	var stream bytes.Buffer
	out := tar.NewWriter(&stream)
	for _, file := range []struct {
		name    string
		kind    byte
		content string
	}{
		{"tmp/profile", tar.TypeReg, "p"},
		{"tmp/cover/", tar.TypeDir, ""},
		{"tmp/cover/a", tar.TypeReg, "a"},
		{"tmp/cover/../../escape", tar.TypeReg, "e"},
		{"etc/passwd", tar.TypeReg, "not asked for"},
	} {
		header := &tar.Header{Name: file.name, Typeflag: file.kind, Mode: 0o640, Size: int64(len(file.content))}
		if err := errors.Join(out.WriteHeader(header), ignoreCount(out.Write([]byte(file.content)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(host, "p"), "old and longer", 0o600)
	wanted := map[string]string{"/tmp/profile": filepath.Join(host, "p"), "/tmp/cover": filepath.Join(host, "c")}
	if err := receive(&stream, wanted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"p": "p", "c/a": "a"}, filesBelow(t, host)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestReceiveTruncated(t *testing.T) {
	if err := receive(strings.NewReader("not a tar archive"), nil); err == nil {
		t.Error("no error")
	}
	if err := receive(strings.NewReader(""), nil); err != nil {
		t.Errorf("nothing to collect: %v", err)
	}
}

func ignoreCount(_ int, err error) error { return err }

func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		found[strings.TrimPrefix(file, dir+"/")] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestConsoleKeepsItsEnd(t *testing.T) {
	var c console
	for i := range 20000 {
		fmt.Fprintf(&c, "line %d\r\n", i)
	}
	got := c.explain(errors.New("ended")).Error()
	want := "ended; its console said:\nline 19880\n"
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\nline 19999") {
		t.Errorf("got %q", got)
	}
	if got := c.explain(context.Canceled); !errors.Is(got, context.Canceled) || strings.Contains(got.Error(), "console") {
		t.Errorf("cancelled: got %v", got)
	}
}

func TestEmulatorFault(t *testing.T) {
	int3 := errors.New("exit status 0; its console said:\n[    2.7] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI")
	for _, c := range []struct {
		name  string
		accel accel
		err   error
		want  bool
	}{
		{"the command ended", tcg, nil, false},
		{"a stray breakpoint under emulation", tcg, int3, true},
		{"a stray breakpoint on a real processor", kvm, int3, false},
		{"another panic", tcg, errors.New("Kernel panic - not syncing: sysrq triggered crash"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := emulatorFault(c.accel, c.err); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
