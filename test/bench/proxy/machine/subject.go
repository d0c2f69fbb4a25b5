package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/bench/proxy/measured"
	"github.com/mooring-project/mooring/test/peers"
)

// subject is a running proxy on its node.
type subject struct {
	*node
	proxy   *peers.Proxy
	dir     string
	group   string // its cgroup
	heard   *listener
	started time.Time
	execs   int // until it was started
}

// start starts a subject on a new node, in a cgroup of its own.
func (b *bench) start(ctx context.Context, name peers.Subject, heard bool) (s *subject, err error) {
	s = new(subject)
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.node, err = newNode(ctx); err != nil {
		return s, err
	}
	if s.dir, err = os.MkdirTemp("", "subject-"); err != nil {
		return s, err
	}
	s.group = filepath.Join("/sys/fs/cgroup", filepath.Base(s.dir))
	if err := os.Mkdir(s.group, 0o755); err != nil {
		return s, err
	}
	if heard {
		if s.heard, err = listen(ctx, s.Namespace); err != nil {
			return s, err
		}
	}
	if s.execs, err = b.execs.count(); err != nil {
		return s, err
	}
	script := `echo $$ >"$0"/cgroup.procs && exec "$@"`
	if b.profiles(name) {
		script += " --profiling"
	}
	s.started = time.Now()
	s.proxy, err = peers.Start(name, s.Run, s.dir, s.Name, peers.Settings{ClusterCIDR: podCIDR}, "/bin/sh", "-c", script, s.group)
	return s, err
}

// profiles tells whether profiles of a subject are wanted.
func (b *bench) profiles(name peers.Subject) bool { return b.Profile && name == peers.Mooring }

// startExecs is how many programs start takes: the shell and what it becomes.
const startExecs = 2

func (s *subject) stop() {
	if s.proxy != nil {
		s.proxy.Stop()
	}
	if s.heard != nil {
		s.heard.close()
	}
	if s.node != nil {
		s.close()
	}
	// What cannot be removed is gone with the machine.
	_ = os.RemoveAll(s.dir)
	_ = os.Remove(s.group)
}

// ended is an error once the process is gone.
func (s *subject) ended() error {
	select {
	case <-s.proxy.Done():
		return fmt.Errorf("it ended; it printed:\n%s", s.proxy.Output())
	default:
		return nil
	}
}

// cpu is the processor time of the process and all of its children until now.
func (s *subject) cpu() (time.Duration, error) {
	file, err := os.Open(filepath.Join(s.group, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if text, found := strings.CutPrefix(lines.Text(), "usage_usec "); found {
			us, err := strconv.ParseInt(text, 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, errors.Join(fmt.Errorf("%s: no usage_usec", file.Name()), lines.Err())
}

// memory gives the resident memory of the process and its highest mark, in MiB.
func (s *subject) memory() (now, peak float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.proxy.PID()))
	if err != nil {
		return 0, 0, errors.Join(err, s.ended())
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		switch name {
		case "VmRSS":
			now = kib / 1024
		case "VmHWM":
			peak = kib / 1024
		}
	}
	return now, peak, nil
}

// during tells what the subject takes while something is done.
func (s *subject) during(x *execs, do func() error) (use measured.Use, err error) {
	cpu, err1 := s.cpu()
	programs, err2 := x.count()
	before := s.heard.count()
	if err := errors.Join(err1, err2, do(), s.ended()); err != nil {
		return use, err
	}
	after, err1 := s.cpu()
	count, err2 := x.count()
	return measured.Use{CPU: after - cpu, Execs: count - programs, Netlink: difference(s.heard.count(), before)}, errors.Join(err1, err2)
}

// quiet waits until the subject does next to nothing: less than 2% of a processor, three times in
// a row. The same for all, unlike their metrics, which take time to be asked. It gives up at
// the end of ctx and after a minute.
func (s *subject) quiet(ctx context.Context) {
	const look, little = 100 * time.Millisecond, 2 * time.Millisecond
	last, _ := s.cpu()
	for calm, tries := 0, 0; calm < 3 && tries < 600; tries++ {
		if pause(ctx, look) != nil {
			return
		}
		now, _ := s.cpu() // an end is found by who asks next
		calm++
		if now-last > little {
			calm = 0
		}
		last = now
	}
}
