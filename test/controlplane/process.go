package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// A process is one running server. Its output is appended to a file.
type process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process is gone
}

// startProcess starts the program bin with args in the working directory dir.
func startProcess(bin string, args []string, dir, logPath string) (*process, error) {
	name := bin[strings.LastIndexByte(bin, '/')+1:]
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%s: log: %w", name, err)
	}
	p := &process{name: name, logPath: logPath, exited: make(chan struct{})}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = childAttr()
	started := make(chan error)
	go p.run(started, log)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: start: %w", name, err)
	}
	return p, nil
}

// run starts the process, reports on started and waits for its end. It holds
// its thread all that time: prctl(2) sends PR_SET_PDEATHSIG when the thread
// that forked ends, not when the whole process does.
func (p *process) run(started chan<- error, log *os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer log.Close()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
	close(p.exited)
}

// kill ends the process at once and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // gone already: nothing to do
	<-p.exited
}

// failure describes an unexpected end (or the state of a process that is
// there but not ready) with the last lines that it logged.
func (p *process) failure(what string) error {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %s", p.name, what), err)
	}
	return fmt.Errorf("%s: %s; last lines of %s:\n%s", p.name, what, p.logPath, lastLines(string(text), 15))
}

// lastLines returns the last n lines of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
