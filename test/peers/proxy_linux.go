package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mooring-project/mooring/test/lab"
)

// Inside calls a function on a thread that is in some network namespace.
type Inside func(func() error) error

// Proxy is a running subject.
type Proxy struct {
	Subject
	cmd    *exec.Cmd
	inside Inside
	output *tail
	http   *http.Client
	stop   context.CancelFunc
	relay  chan error
	done   chan struct{} // closed when the process is gone
}

// Start starts a subject in a namespace for the node of that name. It writes its files into
// dir. Before the program, there may be others that start it, as strace does.
func Start(s Subject, inside Inside, dir, node string, settings Settings, before ...string) (*Proxy, error) {
	config := filepath.Join(dir, s.mode()+"-"+s.Program()+".yaml")
	if err := os.WriteFile(config, []byte(s.Config(Kubeconfig, settings)), 0o600); err != nil {
		return nil, err
	}
	p := &Proxy{Subject: s, inside: inside, output: new(tail), relay: make(chan error, 1), done: make(chan struct{})}
	p.http = &http.Client{Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	if err := p.startRelay(ctx); err != nil {
		stop()
		return nil, err
	}
	args := append(before, filepath.Join(Dir, s.Program()), "--config="+config, "--hostname-override="+node)
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := inside(p.cmd.Start); err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("%s: %w", s, err), <-p.relay)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its output
		close(p.done)
	}()
	return p, nil
}

// startRelay brings the API server to the namespace's loopback address, where the kubeconfig
// looks for it.
func (p *Proxy) startRelay(ctx context.Context) error {
	upstream := os.Getenv(UpstreamVariable)
	_, port, err := net.SplitHostPort(upstream)
	if err != nil {
		return fmt.Errorf("%s: %w", UpstreamVariable, err)
	}
	var listener net.Listener
	err = p.inside(func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		return err
	})
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	go func() { p.relay <- lab.Relay{Listener: listener, Upstream: upstream}.Run(ctx) }()
	return nil
}

func (p *Proxy) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = p.inside(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// PID is the process's number.
func (p *Proxy) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process is gone.
func (p *Proxy) Done() <-chan struct{} { return p.done }

// Output is the end of what the process has printed.
func (p *Proxy) Output() string { return p.output.String() }

// AtRest asks the proxy whether it is through with what it has heard of; false also if it
// does not answer.
func (p *Proxy) AtRest(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10249/metrics", http.NoBody)
	if err != nil {
		return false
	}
	response, err := p.http.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	rest, err := AtRest(response.Body)
	return err == nil && rest
}

// Stop ends the process and the relay and waits for both.
func (p *Proxy) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that is gone ignores it
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill() // as above
		<-p.done
	}
	p.stop()
	if err := <-p.relay; err != nil {
		fmt.Fprintln(p.output, err)
	}
}

// Client is a client of the API server for the machine's own process.
func Client() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	config.QPS = -1
	config.ContentConfig = rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"}
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, os.Getenv(UpstreamVariable))
	}
	return kubernetes.NewForConfig(config)
}

// tail keeps the end of what is written to it.
type tail struct {
	// mu guards what follows.
	mu   sync.Mutex
	kept []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*tailSize {
		t.kept = bytes.Clone(t.kept[len(t.kept)-tailSize:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
