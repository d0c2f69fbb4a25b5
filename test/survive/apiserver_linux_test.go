package survive

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mooring-project/mooring/internal/testkit/pulse"
	"github.com/mooring-project/mooring/test/controlplane"
	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/vm"
)

// hostVariable has, in the machine, the address by which the test on the host stops and starts the
// API server.
const hostVariable = "MOORING_SURVIVE_HOST"

// TestAPIServerAwaySlowOrLying has mooring-proxy follow a real API server that goes away and comes
// back, answers late, half, by errors or not the truth, while the clock jumps and connections are made
// and held. It prepares on the host and goes on in the kernel machine.
func TestAPIServerAwaySlowOrLying(t *testing.T) {
	if os.Getenv(peers.UpstreamVariable) != "" {
		newCluster(t).play()
		return
	}
	if testing.Short() || os.Getenv("MOORING_IPVS") == "required" {
		t.Skip("starts a control plane and then the kernel machine: to be run on the host, without -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	host, err := peers.Prepare(ctx, t.Output(), "./test/survive_test")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Stop()
	control := httptest.NewServer(switches(ctx, host.Control))
	defer control.Close()
	_, port, _ := net.SplitHostPort(control.Listener.Addr().String())
	status, err := vm.Run(ctx, host.Spec(vm.Spec{
		Argv:   []string{peers.Dir + "/survive_test", "-test.run=^TestAPIServerAwaySlowOrLying$", "-test.v"},
		Env:    []string{"CI=" + os.Getenv("CI"), "MOORING_SOAK=" + os.Getenv("MOORING_SOAK"), hostVariable + "=10.0.2.2:" + port},
		Stdout: t.Output(), Stderr: t.Output(), Timeout: 20 * time.Minute,
	}))
	if err != nil || status != 0 {
		t.Fatalf("status %d in the machine, error %v", status, err)
	}
}

// switches stops and starts the API server when asked to.
func switches(ctx context.Context, plane *controlplane.ControlPlane) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/stop", func(http.ResponseWriter, *http.Request) { plane.StopAPIServer() })
	mux.HandleFunc("/start", func(w http.ResponseWriter, _ *http.Request) {
		if err := plane.StartAPIServer(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

// cluster is a bed whose objects are those of a real API server.
type cluster struct {
	*bed
	api     *kubernetes.Clientset
	gate    *gate
	token   string
	servers []*server
	// extra is the number of the newest Service besides web.
	extra int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{bed: newBed(t)}
	config, err := clientcmd.BuildConfigFromFlags("", peers.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	upstream := os.Getenv(peers.UpstreamVariable)
	// Certificates do not outlive the jumps of the clock.
	config.TLSClientConfig = rest.TLSClientConfig{Insecure: true}
	config.QPS, config.Host = -1, "https://"+upstream
	if c.api, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	c.token, config.BearerToken = config.BearerToken, "" // mooring-proxy has it
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	c.gate = openGate(t, c.node.Namespace, &url.URL{Scheme: "https", Host: upstream}, transport)
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %s}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
`, c.gate.address, c.token)
	if err := os.WriteFile(c.file("kubeconfig"), []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	c.args = append(c.args, "--kubeconfig="+c.file("kubeconfig"), "--snapshot="+c.file("snapshot"), "--kube-api-qps=100", "--kube-api-burst=100",
		"--watch-audit-period=8s", "--profiling", "-v=9")
	return c
}

func (c *cluster) must(_ any, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// put makes a Service with its endpoints, all of which are ready.
func (c *cluster) put(o object) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), settle)
	defer cancel()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: o.name}, Spec: corev1.ServiceSpec{ClusterIP: o.address, Ports: []corev1.ServicePort{{Port: 80}}}}
	if o.nodePort != 0 {
		service.Spec.Type, service.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, int32(o.nodePort)
	}
	c.must(c.api.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}))
	c.must(c.api.DiscoveryV1().EndpointSlices("default").Create(ctx, endpointSlice(o), metav1.CreateOptions{}))
}

func endpointSlice(o object) *discoveryv1.EndpointSlice {
	name, port := "", int32(serverPort)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: o.name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: o.name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, e := range o.endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{e.address().String()}})
	}
	return slice
}

// provide makes another Service.
func (c *cluster) provide() {
	c.t.Helper()
	c.extra++
	c.put(object{fmt.Sprintf("extra-%d", c.extra), extraAddress(c.extra), 0, ready(c.servers[0])})
}

// served waits until the newest Service is served.
func (c *cluster) served() {
	c.t.Helper()
	began := time.Now()
	to := origin{"node", c.node.Namespace, net.JoinHostPort(extraAddress(c.extra), "80")}
	c.until(fmt.Sprintf("Service extra-%d", c.extra), func() error { return to.call(context.Background()).err })
	c.t.Logf("extra-%d is served after %s", c.extra, time.Since(began).Round(10*time.Millisecond))
}

// host has the host do something with the API server.
func (c *cluster) host(what string) {
	c.t.Helper()
	response, err := http.Get("http://" + os.Getenv(hostVariable) + "/" + what)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %s: %s", what, response.Status, body)
	}
}

// lasts gives how long trouble lasts: long in a soak.
func lasts(short time.Duration) time.Duration {
	if soak() {
		return 20 * short
	}
	return short
}

func (c *cluster) play() {
	t := c.t
	for i := range 3 {
		c.servers = append(c.servers, startServer(t, c.network.Nodes[i%2], fmt.Sprintf("web-%d", i)))
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: c.node.Name}}
	node, err := c.api.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	c.must(node, err)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: c.node.V4.String()}}
	c.must(c.api.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}))
	c.put(web(ready(c.servers...)))
	c.start()
	c.until("the start", c.healthy)
	beats, lines, stream := pulse.Start(t), hold(t, 30, c.origins()...), startStream(t, 30, 2, c.origins()...)
	c.provide()
	c.served()
	// One server leaves, and has its connections throughout.
	c.must(c.api.DiscoveryV1().EndpointSlices("default").Update(t.Context(), endpointSlice(web(ready(c.servers[:2]...))), metav1.UpdateOptions{}))
	c.until("a drain", func() error { return c.leaving(c.servers[2]) })

	c.badTimes()
	c.outage()
	c.jumps()
	if soak() {
		c.lostEvents()
	}
	stream.finish().check(t, beats)
	lines.check(t)
	if err := c.leaving(c.servers[2]); err != nil {
		t.Error(err)
	}
	c.noSecrets()
}

// leaving tells whether a server is leaving and has connections.
func (c *cluster) leaving(s *server) error {
	page, err := c.drains()
	if err != nil {
		return err
	}
	for _, l := range page.Leaving {
		if l.Endpoint == s.endpoint() && l.Connections > 0 {
			return nil
		}
	}
	return fmt.Errorf("%s is not leaving: %+v", s.name, page)
}

// badTimes has the API server be what it should not be; what changes meanwhile is served afterwards.
func (c *cluster) badTimes() {
	for _, m := range []mood{slow, partial, gone, unavailable, unauthorized} {
		c.gate.set(m)
		time.Sleep(lasts(time.Second))
		c.provide()
		time.Sleep(lasts(3 * time.Second))
		c.gate.set(honest)
		c.t.Logf("after %s", m)
		c.served()
	}
}

// outage has the API server end for a while, in which mooring-proxy is killed and starts without it.
func (c *cluster) outage() {
	c.until("a snapshot on disk", func() error {
		_, err := os.Stat(c.file("snapshot"))
		return err
	})
	c.host("stop")
	time.Sleep(lasts(5 * time.Second))
	c.end(syscall.SIGKILL)
	began := time.Now()
	c.start()
	c.until("service without the API server", c.healthy)
	c.t.Logf("it serves %s after its start", time.Since(began).Round(10*time.Millisecond))
	if age := c.metric(`mooring_restored_age_seconds`); age == "0" || age == "" {
		c.t.Errorf("mooring_restored_age_seconds %q", age)
	}
	c.served()
	time.Sleep(lasts(5 * time.Second))
	c.host("start")
	c.provide()
	c.served()
	if age := c.metric(`mooring_restored_age_seconds`); age != "0" {
		c.t.Errorf("with the API server back: mooring_restored_age_seconds %q", age)
	}
}

// jumps sets the clock forward by a year, and back.
func (c *cluster) jumps() {
	for _, by := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour} {
		var now unix.Timespec
		c.must(nil, unix.ClockGettime(unix.CLOCK_REALTIME, &now))
		now.Sec += int64(by / time.Second)
		c.must(nil, unix.ClockSettime(unix.CLOCK_REALTIME, &now))
		time.Sleep(2 * time.Second)
		c.provide()
		c.served()
		if err := c.leaving(c.servers[2]); err != nil {
			c.t.Errorf("after the clock was set by %s: %v", by, err)
		}
	}
}

// lostEvents has watches miss a change for good, which the audit finds.
func (c *cluster) lostEvents() {
	c.gate.set(deaf)
	c.provide()
	time.Sleep(2 * time.Second)
	c.gate.set(honest)
	began := time.Now()
	for c.metric(`mooring_source_audit_repairs{kind="services"}`) == "0" && time.Since(began) < 2*time.Minute {
		time.Sleep(time.Second)
	}
	c.served()
	c.t.Logf("the audit has found what the watch missed within %s", time.Since(began).Round(time.Second))
}

// noSecrets looks for the token in everything that mooring-proxy shows, at the highest verbosity.
func (c *cluster) noSecrets() {
	shown := map[string]string{"log": c.said.String()}
	for _, path := range []string{
		"/configz", "/flagz", "/statusz", "/metrics", "/drains", "/debug/pprof/cmdline",
		"/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1",
	} {
		text, err := c.get(10249, path)
		if err != nil {
			c.t.Errorf("%s: %v", path, err)
		}
		shown[path] = text
	}
	for _, file := range []string{"snapshot", "drains.json"} {
		content, err := os.ReadFile(c.file(file))
		if err != nil {
			c.t.Error(err)
		}
		shown[file] = string(content)
	}
	for where, text := range shown {
		if strings.Contains(text, c.token) {
			c.t.Errorf("the token is in %s", where)
		}
		if text == "" {
			c.t.Errorf("%s is empty", where)
		}
	}
	if bearer := regexp.MustCompile(`(?i)bearer [a-z0-9]`); bearer.MatchString(shown["log"]) {
		c.t.Error("a credential is in the log")
	}
}
