package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// machine is one running QEMU, or wrapper on the host, and what comes out of it.
type machine struct {
	mark      string     // what ends its streams
	inherited []*os.File // the first is the caller's to close
	readers   sync.WaitGroup
	streams   sync.WaitGroup // those of the readers that end at the mark
	news      chan string    // lines of the control port; closed at its end
	console   console
	collect   error // how the reception of the collected files ended
}

func newMachine() *machine {
	return &machine{mark: newMark(), news: make(chan string)}
}

// open makes the ports' pipes and starts their readers, which end at the mark,
// or when the process, the only writer, is gone. It inherits first, then the
// ports.
func (m *machine) open(first *os.File, spec Spec) error {
	m.inherited = []*os.File{first}
	var ends [ports]*os.File
	for i := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			m.closeInherited()
			for _, end := range ends[:i] {
				end.Close()
			}
			return fmt.Errorf("port: %w", err)
		}
		ends[i] = r
		m.inherited = append(m.inherited, w)
	}
	m.stream(ends[0], func(r io.Reader) { copyAll(spec.Stdout, r) })
	errOut := spec.Stderr
	if spec.merged() {
		// Its port stays silent, but one writer must not have two readers.
		errOut = io.Discard
	}
	m.stream(ends[1], func(r io.Reader) { copyAll(errOut, r) })
	m.read(ends[2], m.readNews)
	m.stream(ends[3], func(r io.Reader) {
		m.collect = receive(r, spec.Collect)
		copyAll(io.Discard, r)
	})
	return nil
}

func (m *machine) read(end *os.File, reader func(io.Reader)) {
	m.readers.Go(func() {
		defer end.Close()
		reader(end)
	})
}

func (m *machine) stream(end *os.File, reader func(io.Reader)) {
	m.streams.Add(1)
	m.read(end, func(r io.Reader) {
		defer m.streams.Done()
		reader(newMarked(r, m.mark))
	})
}

// copyAll keeps reading when the writer fails: a port that nobody reads would
// stop the machine.
func copyAll(to io.Writer, from io.Reader) {
	if _, err := io.Copy(to, from); err != nil {
		// The pipe's end is the end of the run; there is no one to tell.
		_, _ = io.Copy(io.Discard, from)
	}
}

func (m *machine) readNews(r io.Reader) {
	defer close(m.news)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		m.news <- lines.Text()
	}
}

func (m *machine) closeInherited() {
	for _, f := range m.inherited[1:] {
		f.Close()
	}
}

// run starts the command, which is QEMU or the wrapper on the host, and
// returns when it is gone and every port is drained. attach is called with the
// process's id; what it returns is called when the process is gone.
func (m *machine) run(ctx context.Context, cmd *exec.Cmd, spec Spec, attach func(pid int) (detach func(), err error)) (int, error) {
	stop, ended := make(chan struct{}), make(chan error, 1)
	started := make(chan error, 1)
	go supervise(cmd, started, stop, ended)
	err := <-started
	m.closeInherited()
	if err != nil {
		m.drain()
		return -1, fmt.Errorf("start: %w", err)
	}
	status := -1
	detach, err := attach(cmd.Process.Pid)
	if err == nil {
		status, err = m.follow(ctx, spec)
	}
	if err == nil {
		err = m.received(ctx)
	}
	close(stop)
	exit := <-ended
	if detach != nil {
		detach()
	}
	m.drain()
	if err == nil && status < 0 {
		err = endedEarly(exit)
	}
	if err != nil {
		return -1, m.console.explain(err)
	}
	if m.collect != nil {
		return -1, m.collect
	}
	return status, nil
}

// drain reads what is left on the ports; their writer is gone.
func (m *machine) drain() {
	for range m.news {
	}
	m.readers.Wait()
}

// received waits until every stream has come to its end.
func (m *machine) received(ctx context.Context) error {
	ended := make(chan struct{})
	m.readers.Go(func() {
		m.streams.Wait()
		close(ended)
	})
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// supervise starts the command, kills it when stop is closed, and waits. It
// keeps its thread: Pdeathsig, which ends QEMU when this process is killed,
// fires when the thread that started it ends.
func supervise(cmd *exec.Cmd, started chan<- error, stop <-chan struct{}, ended chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if cmd.SysProcAttr == nil {
		// A group of its own: Ctrl-C comes to us alone, and we tidy up.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	}
	err := cmd.Start()
	started <- err
	if err != nil {
		return
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	select {
	case err = <-waited:
	case <-stop:
		// Fails only when it has ended by itself.
		_ = cmd.Process.Kill()
		err = <-waited
	}
	ended <- err
}

// follow reads the control port until the command's exit status; -1 without
// an error means that the port ended before.
func (m *machine) follow(ctx context.Context, spec Spec) (int, error) {
	for {
		select {
		case <-ctx.Done():
			return -1, context.Cause(ctx)
		case line, ok := <-m.news:
			if !ok {
				return -1, nil
			}
			if line == "start" && spec.OnStart != nil {
				spec.OnStart()
			}
			if status, ok := strings.CutPrefix(line, "exit "); ok {
				return strconv.Atoi(status)
			}
		}
	}
}

func endedEarly(exit error) error {
	if exit == nil {
		return errors.New("the machine ended before the command did")
	}
	return fmt.Errorf("the machine ended before the command did: %w", exit)
}
