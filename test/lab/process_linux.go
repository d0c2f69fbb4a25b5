package lab

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Command is a program to run in a Namespace.
type Command struct {
	Args []string
	Env  []string // in addition to PATH and HOME
	// Output receives what the program prints; nil discards it.
	Output io.Writer
}

// A Process is a started Command.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
	err  error         // set before done is closed
}

// outputGrace bounds the wait for output of a program that is gone, but has left its
// output open to a child.
const outputGrace = time.Second

func (n *Namespace) prepare(ctx context.Context, c Command) *exec.Cmd {
	path := cmp.Or(n.Path, os.Getenv("PATH"))
	cmd := exec.CommandContext(ctx, lookUp(c.Args[0], path), c.Args[1:]...)
	cmd.Env = append([]string{"PATH=" + path, "HOME=/"}, c.Env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = c.Output, c.Output
	// A group of its own, lest Ctrl-C at the terminal reach it before us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputGrace
	return cmd
}

// lookUp finds a program in a path that is not our own.
func lookUp(program, path string) string {
	if strings.Contains(program, "/") {
		return program
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, program)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return program // the start fails and says so
}

// Start starts a program that runs until Stop or its own end.
func (n *Namespace) Start(c Command) (*Process, error) {
	p := &Process{cmd: n.prepare(context.Background(), c), done: make(chan struct{})}
	if err := n.Run(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", c.Args[0], n.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Exec runs a program to its end, which the end of ctx forces, and returns what it
// printed and its exit status; -1 if it was killed.
func (n *Namespace) Exec(ctx context.Context, args ...string) (output string, status int, err error) {
	var out strings.Builder
	cmd := n.prepare(ctx, Command{Args: args, Output: &out})
	if err := n.Run(cmd.Start); err != nil {
		return "", -1, fmt.Errorf("run %s in %s: %w", args[0], n.Name, err)
	}
	_ = cmd.Wait() // the state says it better
	return out.String(), cmd.ProcessState.ExitCode(), nil
}

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended, once Done is closed; nil means status 0.
func (p *Process) Err() error { return p.err }

// Signal sends a signal to the process; one that is gone ignores it.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Stop asks the process to end, kills it after the grace, and waits.
func (p *Process) Stop(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Signal(syscall.SIGKILL)
		<-p.done
	}
}
