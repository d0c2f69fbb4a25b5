//go:build linux

package snapshotfile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// fullDiskEnv tells a child of TestFullDisk where to mount a small disk.
const fullDiskEnv = "MOORING_TEST_FULL_DISK"

// TestFullDisk writes a small snapshot and then one for which there is no room, in a mount
// namespace of its own, and wants the small one to be left whole.
func TestFullDisk(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fullDiskEnv+"="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	output, err := child.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no user namespace: %v", err)
		}
		t.Skipf("needs user namespaces: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

func fullDisk(directory string) (status int) {
	if err := fillDisk(directory); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func fillDisk(directory string) error {
	if err := syscall.Mount("tmpfs", directory, "tmpfs", 0, "size=64k"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	path := filepath.Join(directory, "snapshot")
	r := random{rand.New(rand.NewPCG(1, 1))}
	if _, err := Write(path, Header{AsOf: asOf}, r.cluster(5)); err != nil {
		return fmt.Errorf("small: %w", err)
	}
	if _, err := Write(path, Header{AsOf: asOf}, r.cluster(3000)); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("large: error %v, want %v", err, syscall.ENOSPC) //nolint:errorlint // it may be nil
	}
	if _, err := Read(path); err != nil {
		return fmt.Errorf("after the failure: %w", err)
	}
	left, err := os.ReadDir(directory)
	if err != nil || len(left) != 1 {
		return fmt.Errorf("left on the disk: %v %v", left, err) //nolint:errorlint // it may be nil
	}
	if err := syscall.Mount("", directory, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	if _, err := Write(path, Header{AsOf: asOf}, r.cluster(5)); !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("read-only: error %v, want %v", err, syscall.EROFS) //nolint:errorlint // it may be nil
	}
	return nil
}
