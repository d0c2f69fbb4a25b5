package differential

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core" // the server type "dns"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	"github.com/coredns/coredns/plugin/kubernetes"
	"github.com/miekg/dns"

	mooring "github.com/mooring-project/mooring/plugin"
)

// Directives that are ours; tapName is that of a plugin that only notes in which server
// block it stands.
const (
	stockName   = "kubernetes"
	mooringName = "mooring"
	tapName     = "differential_tap"
)

// tapped is the server block that was set up last; starting guards it.
var (
	starting sync.Mutex
	tapped   *dnsserver.Config
)

func init() {
	caddy.Quiet, dnsserver.Quiet = true, true
	plugin.Register(tapName, func(c *caddy.Controller) error {
		for c.Next() {
			tapped = dnsserver.GetConfig(c)
		}
		return nil
	})
	order := slices.Clone(dnsserver.Directives)
	order = slices.Insert(order, slices.Index(order, stockName), mooringName)
	dnsserver.Directives = slices.Concat([]string{tapName}, order, []string{upstreamName})
}

// server is a running CoreDNS with one of the two plugins.
type server struct {
	corefile string
	instance *caddy.Instance
	// chain answers in process what the listening server answers on the network.
	chain   *dnsserver.Server
	stock   *kubernetes.Kubernetes
	mooring *mooring.Mooring
	// remote is true if queries go over the network.
	remote bool
}

// startServer starts a server whose stanza begins with the given directive. It listens
// on all addresses, because a server on loopback alone has no addresses that a Service
// could select.
func startServer(directive string, s stanza, properties ...string) (*server, error) {
	text := s.corefile(directive, properties...)
	starting.Lock()
	defer starting.Unlock()
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(text), Filepath: "Corefile", ServerTypeName: "dns"})
	if err != nil {
		return nil, fmt.Errorf("start with this Corefile:\n%s%w", text, err)
	}
	out := &server{corefile: text, instance: instance}
	if out.chain, err = dnsserver.NewServer("dns://:53", []*dnsserver.Config{tapped}); err != nil {
		return nil, fmt.Errorf("chain of plugins: %w", err)
	}
	switch handler := tapped.Handler(directive).(type) {
	case *kubernetes.Kubernetes:
		out.stock = handler
	case *mooring.Mooring:
		out.mooring = handler
	}
	return out, nil
}

// stop ends the plugins, then the listeners.
func (s *server) stop() error {
	return errors.Join(append(s.instance.ShutdownCallbacks(), s.instance.Stop())...)
}

// errNoReply is given for a reply that cannot be packed: the client never gets one.
var errNoReply = errors.New("no reply sent")

// ask gives the server's reply to a query.
func (s *server) ask(q query) (*dns.Msg, error) {
	if s.remote {
		return s.askRemote(q)
	}
	return s.askInProcess(q)
}

// askRemote asks over loopback. A server that sends nothing is waited for in vain.
func (s *server) askRemote(q query) (*dns.Msg, error) {
	client := dns.Client{Net: "udp", Timeout: 2 * time.Second}
	listener := s.instance.Servers()[0]
	addr := listener.LocalAddr()
	if q.tcp {
		client.Net, addr = "tcp", listener.Addr()
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return nil, err
	}
	reply, _, err := client.Exchange(q.message(), net.JoinHostPort("127.0.0.1", port))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil, errNoReply
	}
	return reply, err
}

// askInProcess has the chain of plugins answer, and unpacks what it would have sent.
func (s *server) askInProcess(q query) (*dns.Msg, error) {
	ctx := context.WithValue(context.Background(), dnsserver.Key{}, s.chain)
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, 0)
	w := &wire{tcp: q.tcp}
	s.chain.ServeDNS(ctx, w, q.message())
	switch {
	case w.sent == nil:
		return nil, fmt.Errorf("%w: %w", errNoReply, w.err)
	case w.err != nil:
		return nil, w.err
	}
	if limit := q.limit(); len(w.sent) > limit {
		return nil, fmt.Errorf("reply has %d octets, the client takes %d", len(w.sent), limit)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(w.sent); err != nil {
		return nil, fmt.Errorf("unpack reply: %w", err)
	}
	return reply, nil
}

// wire is the network side of a server.
type wire struct {
	dns.ResponseWriter // never called
	tcp                bool
	sent               []byte
	err                error
}

// LocalAddr implements dns.ResponseWriter.
func (w *wire) LocalAddr() net.Addr { return w.addr("10.96.0.10", 53) }

// RemoteAddr implements dns.ResponseWriter.
func (w *wire) RemoteAddr() net.Addr { return w.addr("10.244.9.9", 40000) }

func (w *wire) addr(ip string, port int) net.Addr {
	if w.tcp {
		return &net.TCPAddr{IP: net.ParseIP(ip), Port: port}
	}
	return &net.UDPAddr{IP: net.ParseIP(ip), Port: port}
}

// WriteMsg implements dns.ResponseWriter.
func (w *wire) WriteMsg(m *dns.Msg) error {
	sent, err := m.Pack()
	if err != nil {
		w.err = fmt.Errorf("pack reply: %w", err)
		return w.err
	}
	_, err = w.Write(sent)
	return err
}

// Write implements dns.ResponseWriter.
func (w *wire) Write(sent []byte) (int, error) {
	if w.sent != nil {
		w.err = fmt.Errorf("a second reply was sent")
		return 0, w.err
	}
	w.sent = slices.Clone(sent)
	return len(sent), nil
}

// Close implements dns.ResponseWriter.
func (w *wire) Close() error { return nil }

// TsigStatus implements dns.ResponseWriter.
func (w *wire) TsigStatus() error { return nil }

// TsigTimersOnly implements dns.ResponseWriter.
func (w *wire) TsigTimersOnly(bool) {}

// Hijack implements dns.ResponseWriter.
func (w *wire) Hijack() {}

// stanza is what is configured alike for both plugins.
type stanza struct {
	name       string
	zones      []string
	properties []string
	// api are the properties that lead to the API server.
	api []string
}

// corefile writes the stanza below a directive, with further properties.
func (s stanza) corefile(directive string, properties ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, ".:0 {\n    %s\n    %s %s {\n", tapName, directive, strings.Join(s.zones, " "))
	for _, property := range slices.Concat(s.api, s.properties, properties) {
		fmt.Fprintf(&text, "        %s\n", property)
	}
	fmt.Fprintf(&text, "    }\n    %s\n}\n", upstreamName)
	return text.String()
}

// The zones of most stanzas, as kubeadm configures them.
var kubeadmZones = []string{"cluster.local", "in-addr.arpa", "ip6.arpa"}

// stanzas are the configurations that are compared.
func stanzas() []stanza {
	return []stanza{
		{name: "plain", zones: kubeadmZones},
		{name: "kubeadm", zones: kubeadmZones, properties: []string{"pods insecure", "fallthrough in-addr.arpa ip6.arpa", "ttl 30"}},
		{name: "pods verified", zones: kubeadmZones, properties: []string{"pods verified"}},
		{name: "endpoint_pod_names", zones: kubeadmZones, properties: []string{"endpoint_pod_names"}},
		{name: "ignore empty_service", zones: kubeadmZones, properties: []string{"ignore empty_service"}},
		{name: "noendpoints", zones: kubeadmZones, properties: []string{"noendpoints"}},
		{name: "fallthrough", zones: kubeadmZones, properties: []string{"fallthrough", "ttl 0"}},
		{name: "namespaces", zones: kubeadmZones, properties: []string{"namespaces default prod " + barrierNamespace + " " + barrierToggle, "pods insecure"}},
		{name: "namespace_labels", zones: kubeadmZones, properties: []string{"namespace_labels team=a", "pods verified"}},
		{name: "labels", zones: kubeadmZones, properties: []string{"labels app=x", "ttl 3600"}},
		{name: "zonal", zones: kubeadmZones, properties: []string{"zonal"}},
		{name: "multicluster", zones: append([]string{"clusterset.local"}, kubeadmZones...), properties: []string{"multicluster clusterset.local"}},
		{name: "two zones", zones: []string{"10.in-addr.arpa", "k8s.example.test", "cluster.local", "sub.cluster.local"}, properties: []string{"pods insecure"}},
	}
}

// has tells whether the Corefile contains a text.
func (s *server) has(text string) bool { return strings.Contains(s.corefile, text) }
