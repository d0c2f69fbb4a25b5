package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// needQEMU skips without QEMU, except in CI: there it is a failure.
func needQEMU(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine; not with -short")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("no QEMU here; run: go run ./test/vm/cmd/vm prepare")
	}
	t.Setenv("MOORING_KERNEL", "qemu")
	if err := Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestBoot(t *testing.T) {
	needQEMU(t)
	host := t.TempDir()
	write(t, filepath.Join(host, "in/data"), "from the host\n", 0o644)
	var out, errOut bytes.Buffer
	status, err := Run(t.Context(), Spec{
		Argv: []string{"sh", "-c", `cat data; printf 'a\r\nb'; echo "$A" >/dev/stderr; pwd >&2
			mkdir result; echo kept >result/file; head -c 300000 /dev/zero >result/large
			sleep 1000 & exit 42`},
		Env:     []string{"A=it's here"},
		Dir:     "/deep/folder",
		Files:   map[string]string{"/deep/folder": filepath.Join(host, "in")},
		Collect: map[string]string{"/deep/folder/result": filepath.Join(host, "out"), "/absent": filepath.Join(host, "absent")},
		Stdout:  &out,
		Stderr:  &errOut,
	})
	if status != 42 || err != nil {
		t.Errorf("status %d, error %v", status, err)
	}
	if diff := cmp.Diff("from the host\na\r\nb", out.String()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("it's here\n/deep/folder\n", errOut.String()); diff != "" {
		t.Errorf("error output (-want +got):\n%s", diff)
	}
	want := map[string]string{"in/data": "from the host\n", "out/file": "kept\n", "out/large": strings.Repeat("\x00", 300000)}
	if diff := cmp.Diff(want, filesBelow(t, host)); diff != "" {
		t.Errorf("files on the host (-want +got):\n%s", diff)
	}
}

func TestKernelHasWhatMooringNeeds(t *testing.T) {
	needQEMU(t)
	var out bytes.Buffer
	status, err := Run(t.Context(), Spec{
		Argv:   []string{"sh", "-x", "/kernel.sh"},
		Files:  map[string]string{"/kernel.sh": "testdata/kernel.sh"},
		Stdout: &out, Stderr: &out,
	})
	if status != 0 || err != nil || !strings.HasSuffix(out.String(), "\nthe kernel has it all\n") {
		t.Errorf("status %d, error %v, output ends:\n%s", status, err, lastLines(out.String(), 20))
	}
}

func TestGuestReachesTheHostsLoopback(t *testing.T) {
	needQEMU(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = fmt.Fprint(conn, "hello from the host")
			conn.Close()
		}
		served <- err
	}()
	var out bytes.Buffer
	port := fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
	status, err := Run(t.Context(), Spec{
		Argv:    []string{"bash", "-c", "cat </dev/tcp/10.0.2.2/" + port},
		Network: true, Stdout: &out, Stderr: &out,
	})
	listener.Close()
	if acceptErr := <-served; acceptErr != nil || status != 0 || err != nil || out.String() != "hello from the host" {
		t.Errorf("status %d, error %v, accept %v, output %q", status, err, acceptErr, out.String())
	}
}

func TestPanicIsShown(t *testing.T) {
	needQEMU(t)
	_, err := Run(t.Context(), Spec{Argv: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}})
	if err == nil || !strings.Contains(err.Error(), "Kernel panic - not syncing: sysrq triggered crash") {
		t.Errorf("got %v, want the kernel's panic", err)
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	needQEMU(t)
	ctx, cancel := context.WithCancel(t.Context())
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	children := -1
	_, err := Run(ctx, Spec{Argv: []string{"sleep", "1000"}, OnStart: func() {
		children = childrenNamed(t, "qemu-system-x86")
		cancel()
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if after := childrenNamed(t, "qemu-system-x86"); children != 1 || after != 0 {
		t.Errorf("%d machines while it ran and %d after, want 1 and 0", children, after)
	}
	if left := filesBelow(t, temporary); len(left) != 0 {
		t.Errorf("left files: %v", left)
	}
}

// childrenNamed counts this process's children of a name, cut to 15 bytes.
func childrenNamed(t *testing.T, name string) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, file := range stats {
		// A process that has ended since has no file; its parent stays 0.
		stat, _ := os.ReadFile(file)
		var pid, parent int
		var command, state string
		_, _ = fmt.Sscan(string(stat), &pid, &command, &state, &parent)
		if parent == os.Getpid() && strings.Contains(command, name[:15]) {
			count++
		}
	}
	return count
}

// The machine is a host whose kernel has IPVS: there the command runs in
// namespaces, and nothing of it shows outside.
func TestHostWithIPVS(t *testing.T) {
	needQEMU(t)
	program := filepath.Join(t.TempDir(), "vm")
	build := exec.Command("go", "build", "-o", program, "./cmd/vm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	var out bytes.Buffer
	status, err := Run(t.Context(), Spec{
		Argv:   []string{"sh", "/host.sh"},
		Files:  map[string]string{"/usr/bin/vm": program, "/host.sh": "testdata/host.sh"},
		Stdout: &out, Stderr: &out,
	})
	if status != 0 || err != nil {
		t.Errorf("status %d, error %v", status, err)
	}
	want, err := os.ReadFile("testdata/host.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// A guest that calibrates its clock on a busy host may run several times too fast.
func TestGuestKnowsTheRateOfItsClock(t *testing.T) {
	needQEMU(t)
	rate := float64(tscKilohertz()) / 1000
	if rate == 0 {
		t.Skip("no time-stamp counter on this processor")
	}
	var out bytes.Buffer
	status, err := Run(t.Context(), Spec{
		Argv:   []string{"sh", "-c", `dmesg | sed -n 's/.*tsc: Detected \([0-9.]*\) MHz.*/\1/p' | tail -1`},
		Stdout: &out,
	})
	if status != 0 || err != nil {
		t.Fatalf("status %d, error %v", status, err)
	}
	var guest float64
	if _, err := fmt.Sscan(out.String(), &guest); err != nil {
		t.Fatalf("the kernel's line: %v", err)
	}
	if guest < rate*0.99 || guest > rate*1.01 {
		t.Errorf("the guest takes its counter for %.1f MHz, the host measures %.1f MHz", guest, rate)
	}
}
