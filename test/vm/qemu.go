package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// runInQEMU runs a completed spec in a machine.
func runInQEMU(ctx context.Context, spec Spec) (int, error) {
	img, err := ensureQEMU(ctx)
	if err != nil {
		return -1, err
	}
	return boot(ctx, img, spec)
}

// boot starts the machine and reads its ports until it says how the command
// ended. The machine is then killed: nothing in it outlives the run.
func boot(ctx context.Context, img image, spec Spec) (int, error) {
	initrd, added, err := writeInitrd(img, spec)
	if err != nil {
		return -1, fmt.Errorf("initramfs: %w", err)
	}
	defer initrd.Close()
	if spec.MemoryMiB == 0 {
		// An archive is in memory twice while the kernel unpacks it, and the
		// root may fill half of the memory.
		spec.MemoryMiB = 2048 + 3*int(added>>20)
	}
	m := &machine{news: make(chan string)}
	if err := m.open(initrd, spec); err != nil {
		return -1, err
	}
	cmd := exec.Command("qemu-system-x86_64", arguments(img, spec)...)
	cmd.ExtraFiles = m.inherited
	cmd.Stdout = &m.console
	cmd.Stderr = &m.console
	return m.run(ctx, cmd, spec, func(int) (func(), error) { return func() {}, nil })
}

// writeInitrd writes base and the run's own archive into one file, which has
// no name any more when this returns: QEMU gets it as a descriptor, and it is
// gone however the run ends. added is the size of the second part.
func writeInitrd(img image, spec Spec) (f *os.File, added int64, err error) {
	f, err = os.CreateTemp("", "mooring-vm-")
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, err
	}
	base, err := os.Open(img.base)
	if err != nil {
		return nil, 0, err
	}
	defer base.Close()
	if _, err := io.Copy(f, base); err != nil {
		return nil, 0, err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(buffered)
	a.file("/vm/description", 0o644, []byte(describe(spec)))
	a.directory(spec.Dir)
	for guest := range spec.Collect {
		a.directory(path.Dir(guest))
	}
	for guest, host := range spec.Files {
		a.tree(guest, host)
	}
	if err := a.close(); err != nil {
		return nil, 0, err
	}
	return f, a.size, buffered.Flush()
}

// The descriptors QEMU inherits: the initramfs, then the write ends of the
// machine's ports in the order of /dev/vport0p1 and following.
const (
	initrdDescriptor = 3
	portDescriptor   = 4
	ports            = 4
)

// commandLine is the kernel's: its console is the serial line, it prints only
// errors there, and it ends QEMU by a reboot when it dies.
const commandLine = "console=ttyS0 quiet oops=panic panic=-1 " +
	"mitigations=off nokaslr random.trust_cpu=on tsc=reliable transparent_hugepage=never"

func arguments(img image, spec Spec) []string {
	args := []string{
		"-machine", "q35", "-bios", "qboot.rom",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-m", strconv.Itoa(spec.MemoryMiB), "-smp", strconv.Itoa(spec.CPUs),
		"-kernel", img.kernel, "-append", commandLine,
		"-initrd", fmt.Sprintf("/proc/self/fd/%d", initrdDescriptor),
		"-serial", "stdio",
		"-device", "virtio-serial-pci,max_ports=" + strconv.Itoa(ports+1),
	}
	if img.accel == kvm {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		args = append(args, "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off")
	}
	for i := range ports {
		args = append(args,
			"-add-fd", fmt.Sprintf("fd=%d,set=%d", portDescriptor+i, i+1),
			"-chardev", fmt.Sprintf("file,id=port%d,path=/dev/fdset/%d,append=on", i, i+1),
			"-device", fmt.Sprintf("virtserialport,chardev=port%d,nr=%d", i, i+1))
	}
	if spec.Network {
		args = append(args, "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	return args
}

// machine is one running QEMU and what comes out of it.
type machine struct {
	inherited []*os.File
	readers   sync.WaitGroup
	news      chan string // lines of the control port; closed at its end
	console   console
	collect   error // how the reception of the collected files ended
}

// open makes the ports' pipes and starts their readers, which end when QEMU,
// the only writer, is gone.
func (m *machine) open(initrd *os.File, spec Spec) error {
	m.inherited = []*os.File{initrd}
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
	m.read(ends[0], func(r io.Reader) { copyAll(spec.Stdout, r) })
	m.read(ends[1], func(r io.Reader) { copyAll(spec.Stderr, r) })
	m.read(ends[2], m.readNews)
	m.read(ends[3], func(r io.Reader) {
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
		for range m.news {
		}
		m.readers.Wait()
		return -1, fmt.Errorf("start: %w", err)
	}
	status := -1
	detach, err := attach(cmd.Process.Pid)
	if err == nil {
		status, err = m.follow(ctx, spec)
	}
	close(stop)
	exit := <-ended
	if detach != nil {
		detach()
	}
	for range m.news {
	}
	m.readers.Wait()
	if err == nil && status < 0 {
		err = fmt.Errorf("the machine died: %s", exitReason(exit))
	}
	if err != nil {
		return -1, m.console.explain(err)
	}
	if m.collect != nil {
		return -1, m.collect
	}
	return status, nil
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

func exitReason(err error) string {
	if err == nil {
		return "it ended before the command did"
	}
	return err.Error()
}

// console keeps the end of what the serial line and QEMU itself said.
type console struct {
	mu   sync.Mutex
	text []byte
}

// consoleLimit is how many bytes of the console are kept, consoleLines how
// many lines an error shows.
const (
	consoleLimit = 64 << 10
	consoleLines = 40
)

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, bytes.ReplaceAll(p, []byte("\r"), nil)...)
	if extra := len(c.text) - consoleLimit; extra > 0 {
		c.text = c.text[extra:]
	}
	return len(p), nil
}

// explain adds the last lines of the console to an error.
func (c *console) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.TrimSpace(string(c.text))
	if text == "" || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w; its console said:\n%s", err, lastLines(text, consoleLines))
}
