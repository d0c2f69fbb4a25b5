package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sync/errgroup"
)

// Options say what a lab is made of.
type Options struct {
	// BinDir holds mooring-dns, mooring-proxy, mooringctl and lab.
	BinDir string
	// API is the API server to work with; without one the lab works with manifests.
	API *API
	// NoProxy leaves mooring-proxy out, to show that it is what makes Services work.
	NoProxy bool
	// NoDNS has the mooring-dns pods run something else that answers nothing.
	NoDNS bool
	// Logs receives what the programs print.
	Logs *Logbook
}

// A Cluster is what the objects are given to and asked for: an API server or manifests.
type Cluster interface {
	Pods
	Apply(ctx context.Context, objects ...Object) error
	Scale(ctx context.Context, namespace, deployment string, replicas int32) error
	DeletePod(ctx context.Context, namespace, name string) error
	Service(ctx context.Context, namespace, name string) (*corev1.Service, error)
}

// A Lab is a running cluster of two nodes, each with its proxy.
type Lab struct {
	*Network
	Cluster Cluster
	Kubelet *Kubelet

	options Options
	source  []string // flags that tell our programs where the objects are
	stop    context.CancelFunc
	running *errgroup.Group
}

const (
	nodeCount    = 2
	proxyTimeout = time.Minute
)

// manifestDir is where the objects of a lab without an API server are.
var manifestDir = filepath.Join(RunDir, "manifests")

// Start starts a lab. It runs until Stop or the end of ctx; the programs in it end with
// this process in any case, provided that it is isolated.
func Start(ctx context.Context, options Options) (*Lab, error) {
	network, err := NewNetwork(nodeCount)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	running, ctx := errgroup.WithContext(ctx)
	l := &Lab{Network: network, options: options, stop: cancel, running: running}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, l.Stop())
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	open := l.openManifests
	if l.options.API != nil {
		open = l.openAPI
	}
	if err := open(ctx); err != nil {
		return err
	}
	if err := errors.Join(l.writeCorefile(), installBusybox(ctx)); err != nil {
		return err
	}
	if err := l.Cluster.Apply(ctx, NodeObjects(l.Network)...); err != nil {
		return err
	}
	l.startKubelet(ctx)
	if l.options.NoProxy {
		return nil
	}
	return l.startProxies(ctx)
}

// openManifests makes the cluster a directory.
func (l *Lab) openManifests(context.Context) error {
	manifests, err := NewManifests(manifestDir, filepath.Join(RunDir, "scratch"))
	if err != nil {
		return err
	}
	l.Cluster, l.source = manifests, []string{"--source=manifests:" + manifestDir}
	return nil
}

// openAPI makes the cluster an API server, which the relay brings into the lab.
func (l *Lab) openAPI(ctx context.Context) error {
	api := l.options.API
	port, err := api.port()
	if err != nil {
		return err
	}
	if err := api.writeServiceAccount(); err != nil {
		return err
	}
	config, err := api.restConfig()
	if err != nil {
		return err
	}
	cluster, err := NewKubernetes(config)
	if err != nil {
		return err
	}
	listener, err := l.Underlay.Listen("tcp", net.JoinHostPort(RelayAddress.String(), port))
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	l.running.Go(func() error { return Relay{Listener: listener, Upstream: api.Upstream}.Run(ctx) })
	l.running.Go(func() error { return cluster.Run(ctx) })
	l.Cluster, l.source = cluster, []string{"--kubeconfig=" + api.Kubeconfig}
	return nil
}

func (l *Lab) startKubelet(ctx context.Context) {
	l.Kubelet = &Kubelet{
		Network: l.Network,
		Pods:    l.Cluster,
		Images:  l.images(),
		Env:     []string{"KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443"},
		Log:     slog.New(slog.NewTextHandler(l.options.Logs.Page("kubelet"), nil)),
		Output:  func(pod string) io.Writer { return l.options.Logs.Page("pod " + pod) },
	}
	l.running.Go(func() error { return l.Kubelet.Run(ctx) })
}

// images are the images that pods of this lab may name.
func (l *Lab) images() map[string]Image {
	dns := []string{l.program("mooring-dns")}
	if l.options.NoDNS {
		dns = []string{"sh", "-c", "sleep infinity"}
	}
	return map[string]Image{
		"web":         {Entrypoint: []string{l.program("lab"), "web"}},
		"mooring-dns": {Entrypoint: dns},
		"busybox":     {Path: busyboxDir + ":" + l.options.BinDir},
	}
}

// busyboxDir has a link to busybox for each of its programs, as the image of that name.
var busyboxDir = filepath.Join(RunDir, "busybox")

func installBusybox(ctx context.Context) error {
	if err := os.MkdirAll(busyboxDir, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "busybox", "--install", "-s", busyboxDir).CombinedOutput(); err != nil {
		return fmt.Errorf("busybox: %w: %s", err, out)
	}
	return nil
}

// startProxies starts mooring-proxy on every node and waits for their first sync.
func (l *Lab) startProxies(ctx context.Context) error {
	config := filepath.Join(RunDir, "proxy.yaml")
	if err := os.WriteFile(config, []byte(proxyConfig()), 0o644); err != nil {
		return err
	}
	for _, node := range l.Nodes {
		args := append([]string{l.program("mooring-proxy"), "--config=" + config, "--hostname-override=" + node.Name}, l.source...)
		command := Command{Args: args, Output: l.options.Logs.Page("mooring-proxy " + node.Name)}
		l.running.Go(func() error { return l.keepRunning(ctx, node.Namespace, command) })
	}
	// Not ctx: the goroutines above have that.
	limited, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	for _, node := range l.Nodes {
		if err := waitHealthy(limited, node.Namespace); err != nil {
			return fmt.Errorf("mooring-proxy on %s: %w", node.Name, err)
		}
	}
	return nil
}

// keepRunning runs a program until the end of ctx, again whenever it ends, as a
// DaemonSet's pod is restarted.
func (l *Lab) keepRunning(ctx context.Context, node *Namespace, command Command) error {
	for delay := firstRestartDelay; ; delay = min(2*delay, lastRestartDelay) {
		process, err := node.Start(command)
		if err != nil {
			return err
		}
		select {
		case <-process.Done():
			fmt.Fprintf(command.Output, "(ended: %v; started again)\n", process.Err())
		case <-ctx.Done():
			process.Stop(time.Second)
			return nil
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil
		}
	}
}

// proxyConfig is the configuration file of the proxies.
func proxyConfig() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
clusterCIDR: %s,%s
healthzBindAddress: 0.0.0.0:10256
conntrack: {maxPerCore: 0}
`, PodRange4, PodRange6)
}

// waitHealthy polls a proxy's health until it is well or ctx ends.
func waitHealthy(ctx context.Context, node *Namespace) error {
	for {
		err := get(ctx, node, "http://127.0.0.1:10256/healthz")
		if err == nil {
			return nil
		}
		select {
		case <-time.After(probeWhileStarting):
		case <-ctx.Done():
			return fmt.Errorf("not healthy in time: %w", err)
		}
	}
}

// corefilePath is where the mooring-dns pods find their configuration.
var corefilePath = filepath.Join(RunDir, "Corefile")

func (l *Lab) writeCorefile() error {
	source := ""
	if l.options.API == nil {
		source = "manifests " + manifestDir
	}
	return os.WriteFile(corefilePath, fmt.Appendf(nil, corefile, source), 0o644)
}

// corefile has the cluster's zones; there is no upstream in the lab, so other names do
// not exist.
const corefile = `cluster.local in-addr.arpa ip6.arpa {
    errors
    health
    ready
    mooring cluster.local in-addr.arpa ip6.arpa {
        %s
    }
}
. {
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`

// Ctl is a command line of mooringctl for this lab's cluster, to be run on a node.
func (l *Lab) Ctl(args ...string) []string {
	return append(append([]string{l.program("mooringctl")}, args[0]), append(l.source, args[1:]...)...)
}

// Asker is the command line of a client that keeps asking, to be run in a pod; it ends
// with SIGTERM and prints its tallies.
func (l *Lab) Asker(urls ...string) []string {
	return append([]string{l.program("lab"), "ask"}, urls...)
}

func (l *Lab) program(name string) string { return filepath.Join(l.options.BinDir, name) }

// Stop ends everything in the lab and waits for it.
func (l *Lab) Stop() error {
	l.stop()
	err := l.running.Wait()
	l.Close()
	return err
}
