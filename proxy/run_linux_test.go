package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
)

// childVariable has the test binary be mooring-proxy: a process, unlike a goroutine, can have a
// network namespace of its own.
const childVariable = "MOORING_PROXY_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

func child(args []string) int {
	command, err := config.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Do(ctx, command, slog.New(slog.NewTextHandler(os.Stderr, nil)), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// pollEvery leaves the kernel machine, which may be emulated, time for other things.
const pollEvery = 200 * time.Millisecond

// node is a namespace in which mooring-proxy runs.
type node struct {
	t         *testing.T
	namespace *netns.Namespace
	client    http.Client
	manifests string
	process   *exec.Cmd
	log       journal
}

// journal keeps what a process has logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// needKernel ends a test where the kernel has no IPVS: by a skip, or by a failure where the run is
// meant for such a kernel.
func needKernel(t testing.TB) {
	t.Helper()
	if err := ipvs.Available(t.Context()); err != nil {
		if os.Getenv("MOORING_IPVS") == "required" {
			t.Fatal(err)
		}
		t.Skipf(`%v; or run the test by go test -exec "$PWD/test/vm/run"`, err)
	}
}

func startNode(t *testing.T, objects string, args ...string) *node {
	t.Helper()
	n := newNode(t, objects)
	n.process = n.command(args...)
	n.start()
	return n
}

// newNode makes a node on which nothing runs.
func newNode(t *testing.T, objects string) *node {
	t.Helper()
	needKernel(t)
	n := &node{t: t, namespace: netns.New(t), manifests: filepath.Join(t.TempDir(), "objects.yaml")}
	n.client.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, address string) (conn net.Conn, err error) {
		n.namespace.Do(func() { conn, err = net.Dial(network, address) })
		return conn, err
	}}
	n.address("172.30.0.11/24")
	n.write(objects)
	return n
}

// start has the process run until the test ends.
func (n *node) start() {
	n.t.Helper()
	n.process.Stderr = io.MultiWriter(n.t.Output(), &n.log)
	var err error
	n.namespace.Do(func() { err = n.process.Start() })
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.stop)
}

func (n *node) pid() string { return strconv.Itoa(n.process.Process.Pid) }

// pod attaches a pod to the node, which answers on port 8080 until the test ends, and gives the node
// a way to Services.
func (n *node) pod(address string) {
	n.t.Helper()
	pod, ip, gateway := netns.New(n.t), netip.MustParseAddr(address), netip.MustParseAddr("172.30.0.11")
	n.namespace.Veth("pod1", pod, "eth0")
	n.namespace.Route(netip.PrefixFrom(ip, ip.BitLen()), "pod1", netip.Addr{})
	n.namespace.Route(netip.MustParsePrefix("0.0.0.0/0"), "pod1", netip.Addr{})
	pod.Address("eth0", netip.PrefixFrom(ip, ip.BitLen()))
	pod.Route(netip.MustParsePrefix("0.0.0.0/0"), "eth0", gateway)
	var listener net.Listener
	var err error
	pod.Do(func() { listener, err = net.Listen("tcp", address+":8080") })
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { listener.Close() })
}

// dial tells whether a TCP connection from the node comes about.
func (n *node) dial(address string) (err error) {
	n.namespace.Do(func() {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", address, 5*time.Second); err == nil {
			err = conn.Close()
		}
	})
	return err
}

// stop ends mooring-proxy, if it has not ended.
func (n *node) stop() {
	if n.process.ProcessState != nil {
		return
	}
	n.process.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
	if err := n.process.Wait(); err != nil {
		n.t.Errorf("mooring-proxy: %v", err)
	}
}

// command gives mooring-proxy for this node, not started yet.
func (n *node) command(args ...string) *exec.Cmd {
	// An action comes before the flags.
	common := []string{"--source=manifests:" + n.manifests, "--hostname-override=node-1", "--conntrack-max-per-core=0"}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		common = append(args[:1:1], common...)
		args = args[1:]
	}
	command := exec.Command(os.Args[0], append(common, args...)...)
	command.Env = append(os.Environ(), childVariable+"=1")
	return command
}

func (n *node) address(prefix string) { n.namespace.Address("lo", netip.MustParsePrefix(prefix)) }

func (n *node) write(objects string) {
	n.t.Helper()
	if err := os.WriteFile(n.manifests, []byte(objects), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// want polls a URL until the answer has a status and contains a text.
func (n *node) want(when, at string, code int, text string) {
	n.t.Helper()
	got, body := 0, ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(pollEvery) {
		response, err := n.client.Get("http://127.0.0.1:" + at)
		if err != nil {
			body = err.Error()
			continue
		}
		content, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if got, body = response.StatusCode, string(content); got == code && strings.Contains(body, text) {
			return
		}
	}
	n.t.Errorf("%s: %s: %d, want %d with %q:\n%s", when, at, got, code, text, body)
}

const objects = `
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  externalTrafficPolicy: Local
  healthCheckNodePort: 30999
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [{addresses: [10.244.1.2], nodeName: node-1}]
`

func TestTheSurfaceOfARunningProxy(t *testing.T) {
	n := startNode(t, objects, "--detect-local-mode=NodeCIDR", "--endpoint-metrics")
	n.want("started", "10256/healthz", 200, `"nodeEligible":true`)
	n.want("started", "10256/livez", 200, `"IPv4":{"lastUpdated"`)
	n.want("started", "10249/proxyMode", 200, "ipvs")
	n.want("started", "10249/configz", 200, `"detectLocalMode": "NodeCIDR"`)
	n.want("started", "10249/metrics", 200, `mooring_objects{kind="pod-cidr"} 1`)
	n.want("started", "10249/metrics", 200, `kubeproxy_proxy_healthz_total{code="200"}`)
	n.want("started", "10249/metrics", 200, `mooring_endpoint_connections_total{endpoint="10.244.1.2:8080",service="default/web",virtual_server="tcp 172.30.0.11:30080"} 0`)
	n.want("an endpoint here", "30999/", 200, `"localEndpoints": 1`)

	const owned = `mooring_objects{kind="owned"} `
	n.want("one address", "10249/metrics", 200, owned+"2\n")
	n.address("172.30.0.12/24")
	n.want("two addresses", "10249/metrics", 200, owned+"3\n")

	n.write(strings.Replace(objects, "nodeName: node-1", "nodeName: node-2", 1))
	n.want("an endpoint elsewhere", "30999/", 503, `"localEndpoints": 0`)
	n.want("an endpoint elsewhere", "10249/metrics", 200, `no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 1`)
	n.write(strings.Replace(objects, "podCIDR:", "taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}], podCIDR:", 1))
	n.want("the node is to go", "10256/healthz", 503, `"nodeEligible":false`)
	n.want("the node is to go", "10256/livez", 200, `"healthy":true`)
}
