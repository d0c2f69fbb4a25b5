// Command vm runs programs and Go test binaries on a kernel that has IPVS: in
// namespaces on the host where its kernel has it, otherwise in a QEMU machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-project/mooring/test/vm"
)

const usage = `Usage:
  vm exec [flags] -- command [argument ...]   run a command; exits with its status
  vm test binary [argument ...]               run a Go test binary (go test -exec test/vm/run)
  vm prepare                                  install packages, build the image, probe KVM
  vm kernel                                   print which kernel is used and why

Environment:
  MOORING_KERNEL=host|qemu   use this kernel instead of the chosen one
  MOORING_VM_FILES=P:P       more files or folders of the host for vm test, at the same paths
  MOORING_VM_NETWORK=1       vm test with eth0, from which 10.0.2.2 is the host's loopback

Flags of vm exec:
`

// ownFailure is the exit status when the command did not run to its end.
const ownFailure = 125

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer stop()
	status, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string) (int, error) {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "exec":
		return execCommand(ctx, args)
	case "test":
		return execTest(ctx, args)
	case "prepare":
		return prepare(ctx)
	case "kernel":
		return printKernel()
	case "help", "-h", "-help", "--help":
		printUsage(os.Stdout)
		return 0, nil
	}
	printUsage(os.Stderr)
	return 2, nil
}

func printUsage(to io.Writer) {
	fmt.Fprint(to, usage)
	flags, _, _ := execFlags()
	flags.SetOutput(to)
	flags.PrintDefaults()
}

func printKernel() (int, error) {
	kernel, why, err := vm.Choose()
	if err != nil {
		return ownFailure, fmt.Errorf("vm: %w", err)
	}
	fmt.Printf("%s: %s\n", kernel, why)
	return 0, nil
}

func prepare(ctx context.Context) (int, error) {
	if err := vm.Ensure(ctx); err != nil {
		return ownFailure, err
	}
	return printKernel()
}

// pairs collects guest=host flags.
type pairs map[string]string

func (p pairs) String() string { return "" }

func (p pairs) Set(value string) error {
	guest, host, ok := strings.Cut(value, "=")
	if !ok || guest == "" || host == "" {
		return fmt.Errorf("want guest=host, got %q", value)
	}
	p[guest] = host
	return nil
}

func execFlags() (flags *flag.FlagSet, spec *vm.Spec, verbose *bool) {
	files, collect := pairs{}, pairs{}
	spec = &vm.Spec{Files: files, Collect: collect, Stdout: os.Stdout, Stderr: os.Stderr}
	flags = flag.NewFlagSet("vm exec", flag.ContinueOnError)
	flags.Var(files, "file", "copy a file or folder of the host into the machine, `guest=host` (repeatable)")
	flags.Var(collect, "collect", "copy a file or folder out of the machine afterwards, `guest=host` (repeatable)")
	flags.Func("env", "environment variable `K=V` of the command (repeatable)", func(value string) error {
		if !strings.Contains(value, "=") {
			return fmt.Errorf("want K=V, got %q", value)
		}
		spec.Env = append(spec.Env, value)
		return nil
	})
	flags.StringVar(&spec.Dir, "dir", "/", "`folder` the command starts in")
	flags.BoolVar(&spec.Network, "network", false, "eth0, from which 10.0.2.2 is the host's loopback")
	flags.IntVar(&spec.MemoryMiB, "memory", 0, "memory in `MiB` (0: 2048 and what the files need)")
	flags.IntVar(&spec.CPUs, "cpus", 0, "`number` of processors (0: 2)")
	flags.DurationVar(&spec.Timeout, "timeout", vm.DefaultTimeout, "give up after this `time`")
	verbose = flags.Bool("v", false, "say how long the start took")
	return flags, spec, verbose
}

func execCommand(ctx context.Context, args []string) (int, error) {
	flags, spec, verbose := execFlags()
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0, nil
		}
		return 2, nil
	}
	spec.Argv = flags.Args()
	if *verbose {
		begin := time.Now()
		spec.OnStart = func() {
			fmt.Fprintf(os.Stderr, "vm: started after %.1f s\n", time.Since(begin).Seconds())
		}
	}
	return runSpec(ctx, *spec)
}

func runSpec(ctx context.Context, spec vm.Spec) (int, error) {
	status, err := vm.Run(ctx, spec)
	if err != nil {
		return ownFailure, err
	}
	return status, nil
}

func execTest(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("vm test: no test binary given")
	}
	dir, err := os.Getwd()
	if err != nil {
		return ownFailure, fmt.Errorf("vm: %w", err)
	}
	binary, err := filepath.Abs(args[0])
	if err != nil {
		return ownFailure, fmt.Errorf("vm: %w", err)
	}
	static, err := vm.IsStatic(binary)
	if err != nil {
		return ownFailure, fmt.Errorf("vm: %w", err)
	}
	if !static {
		return ownFailure, fmt.Errorf("vm: %s needs a dynamic linker, which the machine need not have; "+
			"build it with CGO_ENABLED=0 (and without -race)", binary)
	}
	return runSpec(ctx, testSpec(binary, dir, args[1:], os.Environ()))
}
