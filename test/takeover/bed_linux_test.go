package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/internal/testkit/printed"
	"github.com/mooring-project/mooring/internal/testkit/pulse"
	"github.com/mooring-project/mooring/test/lab"
	"github.com/mooring-project/mooring/test/peers"
)

// bed is a cluster of two nodes of which the first has a proxy, with a real API server.
type bed struct {
	t       *testing.T
	client  *kubernetes.Clientset
	network *lab.Network
	node    *lab.Node
	pod     *lab.Sandbox // a client on the node
	servers []*server
	http    http.Client // as on the node
	dir     string
}

// balancers are the addresses of load balancers and external ones, which the outside finds by the node.
var balancers = []string{"198.51.100.0/24", "2001:db8:1::/64"}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir()}
	var err error
	b.client, err = peers.Client()
	b.must(err)
	b.network, err = lab.NewNetwork(2)
	b.must(err)
	t.Cleanup(b.network.Close)
	b.node = b.network.Nodes[0]
	b.pod, err = b.node.NewSandbox("client")
	b.must(err)
	t.Cleanup(b.pod.Close)
	for i := range 4 {
		b.servers = append(b.servers, startServer(t, b.network.Nodes[i%2], fmt.Sprintf("web-%d", i)))
	}
	b.shellIn(b.network.Outside, fmt.Sprintf("ip route add %s via %s; ip -6 route add %s via %s", balancers[0], b.node.V4, balancers[1], b.node.V6))
	b.http = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return b.node.Dial(ctx, network, address)
		},
	}}
	b.relayAPI()
	b.writeNodes()
	return b
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// relayAPI brings the API server to the node's loopback address, where the kubeconfig looks for it.
func (b *bed) relayAPI() {
	upstream := os.Getenv(peers.UpstreamVariable)
	_, port, err := net.SplitHostPort(upstream)
	b.must(err)
	listener, err := b.node.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := (lab.Relay{Listener: listener, Upstream: upstream}).Run(ctx); err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(func() { cancel(); running.Wait() })
}

// proxy is a running one.
type proxy struct {
	*lab.Process
	bed    *bed
	output *printed.Text
}

// arguments give a subject's command line; an action of mooring-proxy comes first.
func (b *bed) arguments(s peers.Subject, action []string, flags ...string) []string {
	b.t.Helper()
	file := filepath.Join(b.dir, strings.ReplaceAll(string(s), " ", "-")+".yaml")
	settings := peers.Settings{ClusterCIDR: lab.PodRange4.String() + "," + lab.PodRange6.String()}
	if _, err := os.Stat(file); err != nil { // who runs with it ends when it is written
		b.must(os.WriteFile(file, []byte(s.Config(peers.Kubeconfig, settings)), 0o600))
	}
	args := append([]string{filepath.Join(peers.Dir, s.Program())}, action...)
	return append(append(args, "--config="+file, "--hostname-override="+b.node.Name), flags...)
}

// start starts a subject on the node.
func (b *bed) start(s peers.Subject, flags ...string) *proxy {
	b.t.Helper()
	return b.run(s, nil, nil, flags...)
}

// startBeside starts kube-proxy where mooring-proxy serves. In mode nftables it empties IPVS at its
// start, whoever's the virtual servers are, unless `modprobe ip_vs` fails: as it does in a pod
// without the node's /lib/modules, and here for want of modprobe.
func (b *bed) startBeside(s peers.Subject) *proxy {
	b.t.Helper()
	if s != peers.KubeProxyNFTables {
		return b.start(s)
	}
	bin := filepath.Join(b.dir, "bin")
	b.must(os.Mkdir(bin, 0o755))
	b.must(os.Symlink(strings.TrimSpace(b.shell("command -v nft")), filepath.Join(bin, "nft")))
	return b.run(s, nil, []string{"PATH=" + bin})
}

// run starts a subject for an action.
func (b *bed) run(s peers.Subject, action, environment []string, flags ...string) *proxy {
	b.t.Helper()
	p := &proxy{bed: b, output: new(printed.Text)}
	var err error
	p.Process, err = b.node.Start(lab.Command{Args: b.arguments(s, action, flags...), Env: environment, Output: p.output})
	b.must(err)
	b.t.Cleanup(func() {
		p.Stop(10 * time.Second)
		if b.t.Failed() {
			b.t.Logf("%s printed:\n%s", s, p.output)
		}
	})
	return p
}

// mooring runs mooring-proxy for an action and gives what it prints, and its exit status.
func (b *bed) mooring(action string, flags ...string) (text string, status int) {
	b.t.Helper()
	text, status, err := b.node.Exec(b.t.Context(), b.arguments(peers.Mooring, []string{action}, flags...)...)
	b.must(err)
	return text, status
}

// shell runs a command on the node and gives what it prints.
func (b *bed) shell(command string) string {
	b.t.Helper()
	return b.shellIn(b.node.Namespace, command)
}

func (b *bed) shellIn(where *lab.Namespace, command string) string {
	b.t.Helper()
	text, status, err := where.Exec(b.t.Context(), "sh", "-c", command)
	if err != nil || status != 0 {
		b.t.Fatalf("%s: status %d, %v:\n%s", command, status, err, text)
	}
	return text
}

// settle is how long something may take that takes seconds on a machine of its own.
const settle = 3 * time.Minute

// until waits for something to be so.
func (b *bed) until(what string, is func() error) {
	b.t.Helper()
	began := time.Now()
	for {
		err := is()
		if err == nil {
			b.t.Logf("%s: after %s", what, time.Since(began).Round(100*time.Millisecond))
			return
		}
		if time.Since(began) > settle {
			b.t.Fatalf("%s: not within %s: %v", what, settle, err)
		}
		time.Sleep(10 * pulse.Beat)
	}
}

// atRest tells whether the proxy that answers on the node is through with what it has heard of.
func (b *bed) atRest() error {
	response, err := b.http.Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	rest, err := peers.AtRest(response.Body)
	if err == nil && !rest {
		err = errors.New("busy")
	}
	return err
}

// healthy tells whether the proxy on the node answers that it is.
func (b *bed) healthy() error {
	response, err := b.http.Get("http://127.0.0.1:10256/healthz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// printed waits until a proxy has printed something.
func (p *proxy) printed(text string) {
	p.bed.t.Helper()
	p.bed.until("log: "+text, func() error {
		select {
		case <-p.Done():
			return fmt.Errorf("it has ended: %w", p.Err())
		default:
		}
		if !strings.Contains(p.output.String(), text) {
			return errors.New("not printed")
		}
		return nil
	})
}

// answers tells whether a new connection to a Service is answered.
func (b *bed) answers(from *lab.Namespace, s *service) error {
	conn, err := way{from: from, network: "tcp", target: at(s.addresses[0], 80)}.dial(b.t.Context())
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = ask(conn, newReader(conn))
	return err
}

func at(address netip.Addr, port int) string {
	return netip.AddrPortFrom(address, uint16(port)).String()
}
