package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"reflect"
	"time"
)

// Spec describes one run of a command on a kernel with IPVS.
type Spec struct {
	// Files maps paths the command sees to files or directories of the host,
	// which are copied. Changes do not come back; see Collect.
	Files map[string]string
	// Argv is the command and its arguments. A command without a slash is
	// looked up in the usual directories.
	Argv []string
	// Env is the command's environment as K=V. PATH and HOME have defaults;
	// nothing else is inherited.
	Env []string
	// Dir is the absolute directory the command starts in, "/" when empty. It
	// is created when it does not exist.
	Dir string
	// MemoryMiB is the machine's memory; 0 means 2048 and what Files need.
	MemoryMiB int
	// CPUs is the number of the machine's processors; 0 means 2.
	CPUs int
	// Stdout and Stderr receive the command's output; nil discards it. When
	// they are the same writer or file, the command has one descriptor for
	// both, which keeps the order, and one goroutine at a time writes.
	Stdout, Stderr io.Writer
	// Network gives the command eth0 with the address 10.0.2.15/24, from which
	// 10.0.2.2 is the host's loopback.
	Network bool
	// Disk is a file of the host that the machine has as /dev/vda; what is
	// written to it is forgotten. It takes a machine of its own, QEMU.
	Disk string
	// Tap is a tap interface of this process's network namespace, which is the
	// machine's eth1 or, without Network, eth0; configuring it is up to the
	// command. It takes a machine of its own, QEMU.
	Tap string
	// MAC is the hardware address behind Tap; QEMU's default when empty.
	MAC string
	// Collect maps paths the command may write to paths of the host, to which
	// they are copied when the command has ended with whatever status. Their
	// parents exist when the command starts. A path that does not exist at the
	// end is left out.
	Collect map[string]string
	// Timeout bounds the whole run; 0 means DefaultTimeout.
	Timeout time.Duration
	// OnStart, when not nil, is called when the command is about to start.
	OnStart func()
}

// DefaultTimeout bounds a run whose Spec names no timeout.
const DefaultTimeout = 10 * time.Minute

// Run runs the command where Choose says and returns its exit status, which
// is 128+n when signal n ended it. An error means that the command did not run
// to its end: the machine died, the time was over, or ctx was cancelled; the
// status is then -1. Run leaves neither processes nor temporary files behind.
// It is safe for concurrent use.
func Run(ctx context.Context, spec Spec) (int, error) {
	if err := spec.complete(); err != nil {
		return -1, fmt.Errorf("vm: %w", err)
	}
	kernel, _, err := Choose()
	if err != nil {
		return -1, fmt.Errorf("vm: %w", err)
	}
	if spec.Disk != "" || spec.Tap != "" {
		kernel = QEMU
	}
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Timeout, &timeoutError{spec.Timeout})
	defer cancel()
	run := runOnHost
	if kernel == QEMU {
		run = runInQEMU
	}
	status, err := run(ctx, spec)
	if err != nil {
		return -1, fmt.Errorf("vm: %s: %w", path.Base(spec.Argv[0]), err)
	}
	return status, nil
}

// complete checks the spec and fills in the defaults.
func (s *Spec) complete() error {
	if len(s.Argv) == 0 {
		return errors.New("no command to run")
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	if s.CPUs == 0 {
		s.CPUs = 2
	}
	if s.Timeout == 0 {
		s.Timeout = DefaultTimeout
	}
	if s.Stdout == nil {
		s.Stdout = io.Discard
	}
	if s.Stderr == nil {
		s.Stderr = io.Discard
	}
	paths := []string{s.Dir}
	for guest := range s.Files {
		paths = append(paths, guest)
	}
	for guest := range s.Collect {
		paths = append(paths, guest)
	}
	for _, p := range paths {
		if !path.IsAbs(p) {
			return fmt.Errorf("path %q is not absolute", p)
		}
	}
	return nil
}

// merged reports whether output and error output go to the same place.
func (s *Spec) merged() bool {
	out, isFile := s.Stdout.(*os.File)
	errOut, bothFiles := s.Stderr.(*os.File)
	if isFile && bothFiles {
		return sameFile(out, errOut)
	}
	return reflect.TypeOf(s.Stdout) == reflect.TypeOf(s.Stderr) &&
		reflect.TypeOf(s.Stdout).Comparable() && s.Stdout == s.Stderr
}

func sameFile(a, b *os.File) bool {
	one, err := a.Stat()
	if err != nil {
		return false
	}
	other, err := b.Stat()
	return err == nil && os.SameFile(one, other)
}

// timeoutError says that a run's time was over.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("not done after %s", e.after) }

// Is makes a timed out run match context.DeadlineExceeded.
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
