package controlplane

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// orphanMaker tells the test binary, run by itself, to start a server and wait.
const orphanMaker = "CONTROLPLANE_TEST_ORPHAN_DIR"

func TestProcessDiesWithItsParent(t *testing.T) {
	if dir := os.Getenv(orphanMaker); dir != "" {
		makeOrphan(t, dir)
		return
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestProcessDiesWithItsParent$")
	parent.Env = append(os.Environ(), orphanMaker+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	killErr := parent.Process.Kill()
	_ = parent.Wait() // killed: the error says so
	if err := errors.Join(err, killErr); err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("answer of the parent: %v", err)
	}
	waitForEnd(t, child)
}

func makeOrphan(t *testing.T, dir string) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	p, err := startProcess(sleep, []string{"120"}, dir, filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(p.cmd.Process.Pid)
	<-p.exited
}

// waitForEnd polls until the process is gone or a zombie that init has yet to
// reap.
func waitForEnd(t *testing.T, pid int) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(status), ") Z ") {
			return
		}
		select {
		case <-deadline.C:
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d outlived its parent", pid)
		case <-tick.C:
		}
	}
}

func TestProcessFailureQuotesTheLog(t *testing.T) {
	dir := t.TempDir()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	p, err := startProcess(shell, []string{"-c", "echo no such flag >&2; exit 3"}, dir, filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	p.kill()
	got := p.failure("ended").Error()
	if !strings.HasPrefix(got, "sh: ended; last lines of ") || !strings.HasSuffix(got, "\nno such flag") {
		t.Errorf("failure: %q", got)
	}
}

func TestStartProcessThatDoesNotExist(t *testing.T) {
	dir := t.TempDir()
	_, err := startProcess(filepath.Join(dir, "absent"), nil, dir, filepath.Join(dir, "log"))
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "absent: start: ") {
		t.Errorf("error %v, want absent: start: ... not exist", err)
	}
}

func TestLockExcludesUntilReleased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		unlock, err := lockFile(t.Context(), path)
		if err == nil {
			unlock()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("second lock while held: %v", err)
	case <-time.After(250 * time.Millisecond):
	}
	unlock()
	if err := <-second; err != nil {
		t.Errorf("second lock after release: %v", err)
	}
}
