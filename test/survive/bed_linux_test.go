package survive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/testkit/printed"
	"github.com/mooring-project/mooring/internal/testkit/pulse"
	"github.com/mooring-project/mooring/test/lab"
)

// bed is a cluster of two nodes of which the first has a mooring-proxy.
type bed struct {
	t       *testing.T
	network *lab.Network
	node    *lab.Node
	client  *lab.Sandbox // a pod on the node
	http    http.Client  // as on the node
	dir     string
	args    []string
	process *lab.Process
	said    printed.Text
}

const (
	webAddress = "10.96.0.101"
	webPort    = 30080
)

func newBed(t *testing.T, args ...string) *bed {
	t.Helper()
	needIPVS(t)
	network, err := lab.NewNetwork(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Close)
	b := &bed{t: t, network: network, node: network.Nodes[0], dir: t.TempDir(), said: printed.Text{Also: t.Output()}}
	if b.client, err = b.node.NewSandbox("client"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	b.http = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return b.node.Dial(ctx, network, address)
		},
	}}
	b.args = append([]string{
		"--hostname-override=" + b.node.Name, "--conntrack-max-per-core=0", "--drain-ledger=" + b.file("drains.json"),
		"--cluster-cidr=" + lab.PodRange4.String() + "," + lab.PodRange6.String(),
	}, args...)
	return b
}

func (b *bed) file(name string) string { return filepath.Join(b.dir, name) }

// origins are a process on the node, a pod on it, and a client outside of the cluster.
func (b *bed) origins() []origin {
	web := net.JoinHostPort(webAddress, "80")
	return []origin{
		{"node", b.node.Namespace, web},
		{"pod", b.client.Namespace, web},
		{"outside", b.network.Outside, netip.AddrPortFrom(b.node.V4, webPort).String()},
	}
}

// start starts mooring-proxy.
func (b *bed) start() {
	b.t.Helper()
	process, err := b.node.Start(lab.Command{Args: append([]string{os.Args[0]}, b.args...), Env: []string{childVariable + "=1"}, Output: &b.said})
	if err != nil {
		b.t.Fatal(err)
	}
	b.process = process
	b.t.Cleanup(func() { process.Stop(10 * time.Second) })
}

// end ends mooring-proxy with a signal and waits for it.
func (b *bed) end(signal os.Signal) {
	b.t.Helper()
	select {
	case <-b.process.Done():
		b.t.Fatalf("mooring-proxy has ended by itself: %v", b.process.Err())
	default:
	}
	b.process.Signal(signal)
	<-b.process.Done()
	// Before it listens for the signal, that ends it as it does any process.
	if err := b.process.Err(); err != nil && signal == syscall.SIGTERM && err.Error() != "signal: terminated" {
		b.t.Errorf("mooring-proxy was asked to end: %v", err)
	}
}

// verify has another mooring-proxy compare the kernel with what it should be, until it is: an
// endpoint may have left just now, and what led to it be about to go.
func (b *bed) verify() {
	b.t.Helper()
	b.until("verify", func() error {
		var out strings.Builder
		process, err := b.node.Start(lab.Command{Args: append([]string{os.Args[0], "verify"}, b.args...), Env: []string{childVariable + "=1"}, Output: &out})
		if err != nil {
			return err
		}
		<-process.Done()
		if err := process.Err(); err != nil {
			return fmt.Errorf("%w:\n%s", err, out.String())
		}
		return nil
	})
}

// get asks mooring-proxy.
func (b *bed) get(port int, path string) (string, error) {
	response, err := b.http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

// metric gives the value of a metric, as text; empty if it is not there.
func (b *bed) metric(name string) string {
	b.t.Helper()
	text, err := b.get(10249, "/metrics")
	if err != nil {
		b.t.Errorf("metrics: %v", err)
	}
	for line := range strings.Lines(text) {
		if value, is := strings.CutPrefix(line, name+" "); is {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// settle is how long something may take that takes less than a second on a machine of its own: on one
// that is emulated beside other work, loading the kernel's modules at the first start alone takes
// half a minute.
const settle = 2 * time.Minute

// until waits for something to be so.
func (b *bed) until(what string, is func() error) {
	b.t.Helper()
	began := time.Now()
	for {
		err := is()
		if err == nil {
			return
		}
		if time.Since(began) > settle {
			b.t.Fatalf("%s: not within %s: %v", what, settle, err)
		}
		time.Sleep(pulse.Beat)
	}
}

func (b *bed) healthy() error {
	_, err := b.get(10256, "/healthz")
	return err
}

// drains gives what mooring-proxy says of endpoints that are leaving.
func (b *bed) drains() (page drainsPage, err error) {
	text, err := b.get(10249, "/drains")
	if err == nil {
		err = json.Unmarshal([]byte(text), &page)
	}
	return page, err
}

type drainsPage struct {
	Leaving []struct {
		Endpoint        string
		Since, Deadline time.Time
		Connections     int
	}
	Left []struct {
		Endpoint, Outcome string
		Cut               int
	}
}

// endpoint is a server in an EndpointSlice, with its conditions.
type endpoint struct {
	*server
	serving, terminating bool
}

func ready(servers ...*server) (list []endpoint) {
	for _, s := range servers {
		list = append(list, endpoint{s, true, false})
	}
	return list
}

// object is a Service with its endpoints.
type object struct {
	name, address string
	nodePort      int
	endpoints     []endpoint
}

func web(endpoints []endpoint) object { return object{"web", webAddress, webPort, endpoints} }

// write replaces the manifests that mooring-proxy reads.
func (b *bed) write(objects ...object) {
	b.t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nstatus: {addresses: [{type: InternalIP, address: %s}]}\n", b.node.Name, b.node.V4)
	for _, o := range objects {
		text.WriteString(o.manifest())
	}
	incomplete := b.file("incomplete")
	if err := errors.Join(os.WriteFile(incomplete, []byte(text.String()), 0o644), os.Rename(incomplete, b.file("objects.yaml"))); err != nil {
		b.t.Fatal(err)
	}
}

func (o object) manifest() string {
	var text strings.Builder
	kind, port := "ClusterIP", "{port: 80}"
	if o.nodePort != 0 {
		kind, port = "NodePort", fmt.Sprintf("{port: 80, nodePort: %d}", o.nodePort)
	}
	fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default}\nspec: {type: %s, clusterIP: %s, ports: [%s]}\n", o.name, kind, o.address, port)
	fmt.Fprintf(&text, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-1, namespace: default, labels: {kubernetes.io/service-name: %s}}\n", o.name, o.name)
	fmt.Fprintf(&text, "addressType: IPv4\nports: [{name: \"\", port: %d}]\nendpoints:\n", serverPort)
	for _, e := range o.endpoints {
		fmt.Fprintf(&text, "- {addresses: [%s], conditions: {ready: %t, serving: %t, terminating: %t}}\n", e.address(), e.serving && !e.terminating, e.serving, e.terminating)
	}
	if len(o.endpoints) == 0 {
		text.WriteString("  []\n")
	}
	return text.String()
}
