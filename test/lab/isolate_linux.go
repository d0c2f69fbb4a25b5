package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// RunDir is where a lab keeps its files. It is in memory and only this lab sees it.
const RunDir = "/run/lab"

// insideEnv marks the process that Isolate has started.
const insideEnv = "MOORING_LAB_INSIDE"

// Inside tells whether this process is the first one of a lab's own process
// namespace.
func Inside() bool { return os.Getpid() == 1 && os.Getenv(insideEnv) != "" }

// Isolate runs this program again, with the same arguments, as the first process of
// new process and mount namespaces, and returns its exit status. The kernel kills
// everything in them when that process ends, and it ends with this one. The end of ctx
// asks it to end with SIGTERM.
func Isolate(ctx context.Context) (status int, err error) {
	// The death signal below is tied to the thread that starts the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return -1, fmt.Errorf("lab: own namespaces (are you root?): %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// EnterIsolation completes the new namespaces from inside, before anything else is
// done: nothing mounted from here on is seen outside, /proc shows our processes, and
// /run is empty and in memory.
func EnterIsolation() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("lab: private mounts: %w", err)
	}
	if err := errors.Join(
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"),
		os.MkdirAll(RunDir, 0o755),
	); err != nil {
		return fmt.Errorf("lab: own /proc and /run: %w", err)
	}
	return errors.Join(provideVarRun(), provideResolvConf())
}

// provideVarRun makes /var/run, where programs in pods look for their credentials,
// another name of /run if the root has none, as that of a bare machine.
func provideVarRun() error {
	if _, err := os.Lstat("/var/run"); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(os.MkdirAll("/var", 0o755), os.Symlink("/run", "/var/run"))
}

const resolvConfPath = "/etc/resolv.conf"

// provideResolvConf makes sure that there is something to mount the pods' own
// resolv.conf on: the file may be missing or point into the /run that was there before.
func provideResolvConf() error {
	path := resolvConfPath
	if target, err := os.Readlink(path); err == nil {
		path = target
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(resolvConfPath), path)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return f.Close()
}
