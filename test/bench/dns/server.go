package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// product is one of the servers compared.
type product struct {
	name, binary string
	// directive is kubernetes or mooring; empty is the floor.
	directive string
}

// corefileText is kubeadm's default Corefile, on loopback ports.
var corefileText = template.Must(template.New("Corefile").Parse(`.:{{.DNS}} {
    bind 127.0.0.1
{{- if .Directive}}
    errors
    health 127.0.0.1:{{.Health}} {
       lameduck 5s
    }
    ready 127.0.0.1:{{.Ready}}
    {{.Directive}} cluster.local in-addr.arpa ip6.arpa {
       endpoint http://{{.API}}
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
       startup_timeout 1m
    }
    prometheus 127.0.0.1:{{.Metrics}}
    forward . {{.Upstream}} {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
{{- if .Profile}}
    pprof 127.0.0.1:{{.Profile}}
{{- end}}
{{- else}}
    ready 127.0.0.1:{{.Ready}}
    whoami
{{- end}}
}
`))

// settings fill the template.
type settings struct {
	Directive, API, Upstream             string
	DNS, Health, Ready, Metrics, Profile int
}

// server is a running product.
type server struct {
	product
	settings
	process *exec.Cmd
	log     string
}

// startServer starts a product on one core and waits until it is ready. The process ends
// with ctx, and with this program at the latest: the kernel sees to it (PR_SET_PDEATHSIG),
// for which the caller must be locked to its thread.
func startServer(ctx context.Context, p product, s settings, dir, core string) (*server, error) {
	for _, port := range []*int{&s.DNS, &s.Health, &s.Ready, &s.Metrics} {
		var err error
		if *port, err = freePort(); err != nil {
			return nil, err
		}
	}
	s.Directive = p.directive
	corefile := filepath.Join(dir, p.name+".Corefile")
	out, err := os.Create(corefile)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(corefileText.Execute(out, s), out.Close()); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, p.name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	process := exec.CommandContext(ctx, "taskset", "-c", core, p.binary, "-conf", corefile)
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	started := &server{product: p, settings: s, process: process, log: log.Name()}
	if err := started.waitReady(ctx); err != nil {
		started.stop()
		return nil, err
	}
	return started, nil
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func (s *server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/ready", s.Ready), http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%s: not ready, see %s: %w", s.name, s.log, err)
		}
	}
}

// stop ends the process and waits for it.
func (s *server) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait() // says only that it was killed
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// ticksPerSecond is USER_HZ, in which /proc counts time; it is 100 on every architecture
// that Go knows.
const ticksPerSecond = 100

// cpuTime gives the processor time that the process has used, user and system
// (proc_pid_stat(5), fields 14 and 15).
func (s *server) cpuTime() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", s.process.Process.Pid, stat)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / ticksPerSecond, errors.Join(err1, err2)
}

// resident is resident memory in MiB.
type resident struct {
	// all is the present figure, peak its highest mark; file is the part of all that maps
	// files: the program itself.
	all, peak, file float64
}

// memory reads the resident memory (proc_pid_status(5)).
func (s *server) memory() (r resident, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		switch name {
		case "VmRSS":
			r.all = kib / 1024
		case "VmHWM":
			r.peak = kib / 1024
		case "RssFile":
			r.file = kib / 1024
		}
	}
	return r, nil
}

// resetPeak forgets the highest mark (proc_pid_clear_refs(5)).
func (s *server) resetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.process.Process.Pid), []byte("5"), 0o200)
}
