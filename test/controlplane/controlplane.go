package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"k8s.io/client-go/rest"
)

// A ControlPlane is a running control plane. Its methods may be called from
// several goroutines.
type ControlPlane struct {
	options Options
	paths   paths
	binDir  string
	ca      *authority
	users   []User

	// mu guards what runs: starting and stopping happen one at a time.
	mu        sync.Mutex
	processes []*process  // in the order of their start
	detach    func() bool // forgets the end of Start's context
	stopped   bool
}

// Start starts a control plane and returns when its API is ready, the
// controllers work and the Service default/kubernetes has its endpoint. It
// runs until Stop or the end of ctx, whichever comes first. On failure
// nothing is left and the error ends with what the failing component logged
// last.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	c, err := prepare(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if err := c.startAll(ctx); err != nil {
		c.Stop()
		return nil, fmt.Errorf("control plane: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.detach = context.AfterFunc(ctx, c.Stop)
	return c, nil
}

// prepare makes the binaries and the files; nothing runs yet.
func prepare(ctx context.Context, options Options) (*ControlPlane, error) {
	o, ranges, err := options.complete()
	if err != nil {
		return nil, err
	}
	if o.SecurePort == 0 {
		if o.SecurePort, err = freePort(o.BindAddress); err != nil {
			return nil, err
		}
	}
	c := &ControlPlane{options: o, binDir: o.BinDir}
	if c.binDir == "" {
		if c.binDir, err = Build(ctx, o.Log, c.programs()...); err != nil {
			return nil, err
		}
	}
	if c.users, err = completeUsers(o.Users); err != nil {
		return nil, err
	}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	if err := c.writeFiles(ranges); err != nil {
		c.removeDir()
		return nil, err
	}
	return c, nil
}

// programs names what this control plane runs.
func (c *ControlPlane) programs() []string {
	names := []string{Etcd, APIServer}
	if !c.options.NoControllerManager {
		names = append(names, ControllerManager)
	}
	if c.options.Scheduler {
		names = append(names, Scheduler)
	}
	return names
}

func (c *ControlPlane) makeDir() error {
	dir, err := filepath.Abs(c.options.Dir)
	if c.options.Dir == "" {
		dir, err = os.MkdirTemp("", "controlplane-")
	}
	if err != nil {
		return err
	}
	c.paths = paths{dir: dir}
	if n := len(c.paths.etcdSocket()); n > maxSocketPath {
		return fmt.Errorf("directory %s: too long, the socket in it may have %d bytes and has %d", dir, maxSocketPath, n)
	}
	return os.MkdirAll(c.paths.logs(), 0o755)
}

func (c *ControlPlane) removeDir() {
	if c.options.Dir == "" {
		_ = os.RemoveAll(c.paths.dir) // what is left is in the temporary directory
	}
}

// writeFiles writes keys, certificates, tokens and the admin's kubeconfig.
func (c *ControlPlane) writeFiles(ranges []netip.Prefix) error {
	var err error
	if c.ca, err = newAuthority(); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(c.paths.ca(), c.ca.pem, 0o644),
		c.ca.server(c.paths.dir, "apiserver", servingNames(c.options, ranges)),
		c.ca.client(c.paths.dir, "kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
		writeSigningKey(c.paths.signingKey()),
		writeTokens(c.paths.tokens(), c.users),
		c.WriteKubeconfig(c.paths.kubeconfig(), "", Admin),
	)
}

func (c *ControlPlane) startAll(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.launch(Etcd, etcdFlags(c.paths)); err != nil {
		return err
	}
	if err := c.waitFor(ctx, Etcd, c.etcdListens); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	return c.startControllers(ctx)
}

// startAPIServer waits, beyond readiness, for the server's entry in the
// endpoints of default/kubernetes, which comes shortly after.
func (c *ControlPlane) startAPIServer(ctx context.Context) error {
	if err := c.launch(APIServer, apiServerFlags(c.options, c.paths)); err != nil {
		return err
	}
	if err := c.waitFor(ctx, APIServer, c.exists("/readyz")); err != nil {
		return err
	}
	return c.waitFor(ctx, APIServer, c.exists("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"))
}

// startControllers waits for the controllers by something they do: they make
// the service account "default" of every namespace.
func (c *ControlPlane) startControllers(ctx context.Context) error {
	if c.options.Scheduler {
		if err := c.launch(Scheduler, schedulerFlags(c.options, c.paths)); err != nil {
			return err
		}
	}
	if c.options.NoControllerManager {
		return nil
	}
	if err := c.launch(ControllerManager, controllerManagerFlags(c.options, c.paths)); err != nil {
		return err
	}
	return c.waitFor(ctx, ControllerManager, c.exists("/api/v1/namespaces/default/serviceaccounts/default"))
}

// launch starts a program and remembers it. The caller holds mu.
func (c *ControlPlane) launch(name string, flags []string) error {
	log := filepath.Join(c.paths.logs(), name+".log")
	p, err := startProcess(filepath.Join(c.binDir, name), flags, c.paths.dir, log)
	if err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	return nil
}

// Stop ends all processes and returns when they are gone; the temporary
// directory is gone then, too. The data is lost anyway, so they are killed.
func (c *ControlPlane) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.detach != nil {
		c.detach()
	}
	for _, p := range slices.Backward(c.processes) {
		p.kill()
	}
	c.processes = nil
	c.stopped = true
	c.removeDir()
}

// StopAPIServer kills the API server and leaves everything else running. It
// returns when the server is gone; stopping one that does not run does nothing.
//
// This is an outage, not an upgrade: a server that ends in order first removes
// itself from the endpoints of default/kubernetes, and takes some 15 seconds.
func (c *ControlPlane) StopAPIServer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.processes, func(p *process) bool { return p.name == APIServer })
	if i < 0 {
		return
	}
	c.processes[i].kill()
	c.processes = slices.Delete(c.processes, i, i+1)
}

// StartAPIServer starts the API server after StopAPIServer, on the same
// address with the same data, and returns when it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped:
		return fmt.Errorf("control plane: start API server: stopped already")
	case slices.ContainsFunc(c.processes, func(p *process) bool { return p.name == APIServer }):
		return fmt.Errorf("control plane: start API server: runs already, stop it first")
	}
	if err := c.startAPIServer(ctx); err != nil {
		return fmt.Errorf("control plane: start API server: %w", err)
	}
	return nil
}

// URL returns the API server's URL on this host.
func (c *ControlPlane) URL() string {
	host := c.options.BindAddress
	switch {
	case host == netip.IPv4Unspecified():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case host == netip.IPv6Unspecified():
		host = netip.IPv6Loopback()
	}
	return "https://" + net.JoinHostPort(host.String(), strconv.Itoa(int(c.options.SecurePort)))
}

// Port returns the port on which the API server listens. The endpoint of
// default/kubernetes is the advertised address with this port.
func (c *ControlPlane) Port() uint16 { return c.options.SecurePort }

// Kubeconfig returns the path of the administrator's kubeconfig.
func (c *ControlPlane) Kubeconfig() string { return c.paths.kubeconfig() }

// CAFile returns the path of the certificate authority, which signs the API
// server's certificate and the one it shows to kubelets.
func (c *ControlPlane) CAFile() string { return c.paths.ca() }

// Token returns the administrator's bearer token.
func (c *ControlPlane) Token() string { return c.users[0].Token }

// LogDir returns the directory of the logs, one file a program.
func (c *ControlPlane) LogDir() string { return c.paths.logs() }

// BinDir returns the directory of the programs, as Build does.
func (c *ControlPlane) BinDir() string { return c.binDir }

// RESTConfig returns a new client configuration for the administrator that
// does not limit its own rate.
func (c *ControlPlane) RESTConfig() *rest.Config {
	return &rest.Config{
		Host:            c.URL(),
		BearerToken:     c.Token(),
		TLSClientConfig: rest.TLSClientConfig{CAData: slices.Clone(c.ca.pem)},
		QPS:             -1,
	}
}
