package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/test/vm"
)

func TestTestSpec(t *testing.T) {
	dir := t.TempDir()
	testdata := filepath.Join(dir, "testdata")
	cover := filepath.Join(dir, "cover")
	for _, d := range []string{testdata, cover} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name          string
		args, environ []string
		want          vm.Spec
	}{
		{
			name: "plain",
			args: []string{"-test.paniconexit0", "-test.timeout=10m0s", "-test.v=true"},
			want: vm.Spec{Timeout: 12 * time.Minute},
		},
		{
			name: "no deadline",
			args: []string{"-test.timeout=0s"},
			want: vm.Spec{Timeout: 24 * time.Hour},
		},
		{
			name:    "environment",
			environ: []string{"CI=true", "CIRCLE=1", "HOME=/h", "PATH=/p", "MOORING_SEED=7", "GORACE=x", "MOORING_KERNEL=qemu", "GOROOT=/g"},
			want:    vm.Spec{Timeout: 24 * time.Hour, Env: []string{"CI=true", "MOORING_SEED=7", "GORACE=x"}},
		},
		{
			name:    "more files and network",
			environ: []string{"MOORING_VM_FILES=/a:/b/c", "MOORING_VM_NETWORK=1"},
			want:    vm.Spec{Timeout: 24 * time.Hour, Network: true, Files: map[string]string{"/a": "/a", "/b/c": "/b/c"}},
		},
		{
			name: "profiles come back",
			args: []string{"-test.coverprofile=/o/c.out", "-test.cpuprofile=cpu.out", "-test.gocoverdir=" + cover, "-test.run=cpuprofile=x"},
			want: vm.Spec{
				Timeout: 24 * time.Hour,
				Files:   map[string]string{cover: cover},
				Collect: map[string]string{"/o/c.out": "/o/c.out", dir + "/cpu.out": dir + "/cpu.out", cover: cover},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			want.Argv = append([]string{"/t/x.test"}, test.args...)
			want.Dir, want.Stdout, want.Stderr = dir, os.Stdout, os.Stderr
			if want.Files == nil {
				want.Files = map[string]string{}
			}
			want.Files["/t/x.test"], want.Files[testdata] = "/t/x.test", testdata
			if want.Collect == nil {
				want.Collect = map[string]string{}
			}
			got := testSpec("/t/x.test", dir, test.args, test.environ)
			sameFile := cmp.Comparer(func(a, b *os.File) bool { return a == b })
			if diff := cmp.Diff(want, got, sameFile); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExecFlags(t *testing.T) {
	flags, spec, verbose := execFlags()
	err := flags.Parse([]string{"-file", "/a=b=c", "-env", "K=", "-collect", "/x=y", "-network", "-v", "-timeout", "3s", "--", "sh", "-c", "x"})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{spec.Files["/a"], spec.Env, spec.Collect["/x"], spec.Network, *verbose, spec.Timeout, flags.Args()}
	want := []any{"b=c", []string{"K="}, "y", true, true, 3 * time.Second, []string{"sh", "-c", "x"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
}

func TestExecFlagRefusals(t *testing.T) {
	for _, args := range [][]string{{"-file", "/a"}, {"-file", "=b"}, {"-env", "K"}, {"-collect", "/a="}, {"-timeout", "x"}} {
		flags, _, _ := execFlags()
		flags.SetOutput(discard{})
		if err := flags.Parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
