package mooring

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// changed is when the fixture's objects last changed; the SOA serial follows from it.
var changed = time.Unix(1_800_000_000, 0)

// newTestPlugin builds the plugin from a stanza, as setup does, and fills its store
// with the fixture.
func newTestPlugin(t testing.TB, stanza string) *Mooring {
	t.Helper()
	m, err := Parse(caddy.NewTestController("dns", stanza))
	if err != nil {
		t.Fatal(err)
	}
	m.Store.Update(changed, fixture)
	return m
}

// fixture is a small cluster with one of everything.
func fixture(tx *state.Txn) {
	for _, namespace := range []string{"default", "prod", "empty"} {
		tx.PutNamespace(&model.Namespace{Name: namespace})
	}
	http := model.ServicePort{Name: "http", Protocol: model.TCP, Port: 80}
	tx.PutService(&model.Service{Key: key("default", "web"), ClusterIPs: addrs("10.96.0.1"), Ports: []model.ServicePort{http}})
	tx.PutService(&model.Service{Key: key("default", "dual"), ClusterIPs: addrs("10.96.0.2", "fd00:10:96::2"), Ports: []model.ServicePort{http}})
	tx.PutService(&model.Service{Key: key("default", "idle"), ClusterIPs: addrs("10.96.0.3"), Ports: []model.ServicePort{http}})
	tx.PutSlice(slice("default", "web", endpoint("10.244.1.5"), endpoint("10.244.2.5"), notReady(endpoint("10.244.2.6"))))
	tx.PutService(&model.Service{Key: key("prod", "db"), Headless: true, Ports: []model.ServicePort{http}})
	tx.PutSlice(slice("prod", "db", named("db-0", endpoint("10.244.1.7")), endpoint("10.244.2.7"), notReady(named("db-2", endpoint("10.244.2.8")))))
	tx.PutService(&model.Service{Key: key("prod", "down"), Headless: true, Ports: []model.ServicePort{http}})
	tx.PutSlice(slice("prod", "down", notReady(named("down-0", endpoint("10.244.1.9")))))
	fixtureDNS(tx)
	fixtureAliases(tx)
	fixturePods(tx)
	tx.SetSynced()
}

// fixtureDNS is the Service of this server itself, and a headless one in two zones and
// families.
func fixtureDNS(tx *state.Txn) {
	tx.PutNamespace(&model.Namespace{Name: "kube-system"})
	tx.PutService(&model.Service{Key: key("kube-system", "kube-dns"), ClusterIPs: addrs("10.96.0.10"), Ports: []model.ServicePort{
		{Name: "dns", Protocol: model.UDP, Port: 53}, {Name: "dns-tcp", Protocol: model.TCP, Port: 53}, {Protocol: model.TCP, Port: 9153},
	}})
	tx.PutSlice(slice("kube-system", "kube-dns", endpoint("10.244.1.2")))
	tx.PutService(&model.Service{Key: key("prod", "peers"), Headless: true})
	tx.PutSlice(slice("prod", "peers", zoned("eu-1", endpoint("10.244.1.8")), zoned("corp.example.com", endpoint("10.244.2.9"))))
	six := slice("prod", "peers", zoned("eu-1", endpoint("fd00:10:244:1::8")), endpoint("fd00:10:244:2::"))
	six.Name = "peers-6"
	tx.PutSlice(six)
}

func fixtureAliases(tx *state.Txn) {
	for name, target := range map[string]string{
		"out": "www.example.org", "in": "web.default.svc.cluster.local", "lost": "none.default.svc.cluster.local",
		"loop": "loop.prod.svc.cluster.local", "digits": "192.0.2.1", "twice": "in.prod.svc.cluster.local",
	} {
		tx.PutService(&model.Service{Key: key("prod", name), Type: model.ExternalName, ExternalName: target})
	}
}

func fixturePods(tx *state.Txn) {
	tx.PutPod(&model.Pod{Namespace: "default", Name: "web-0", Addresses: addrs("10.244.1.5", "fd00:10:244:1::5"), Labels: map[string]string{"app": "web"}})
	tx.PutPod(&model.Pod{Namespace: "kube-system", Name: "agent", Addresses: addrs("172.30.0.11"), HostNetwork: true})
	tx.PutPod(&model.Pod{Namespace: "prod", Name: "agent", Addresses: addrs("172.30.0.11"), HostNetwork: true})
}

func zoned(topology string, e model.Endpoint) model.Endpoint {
	e.About = &model.About{Zone: topology}
	return e
}

func key(namespace, name string) model.ServiceKey {
	return model.ServiceKey{Namespace: namespace, Name: name}
}

func addrs(texts ...string) (list []netip.Addr) {
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func slice(namespace, service string, endpoints ...model.Endpoint) *model.EndpointSlice {
	return &model.EndpointSlice{
		Name:      service + "-1",
		Service:   key(namespace, service),
		Ports:     []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}},
		Endpoints: endpoints,
	}
}

func endpoint(addr string) model.Endpoint {
	return model.Endpoint{Addr: netip.MustParseAddr(addr), Ready: true, Serving: true}
}

func named(hostname string, e model.Endpoint) model.Endpoint {
	e.About = &model.About{Hostname: hostname}
	return e
}

func notReady(e model.Endpoint) model.Endpoint {
	e.Ready, e.Serving = false, false
	return e
}

// ask sends one question to the plugin, written as "name TYPE", and gives the reply;
// nil if the plugin wrote none.
func ask(t testing.TB, m *Mooring, question string) *dns.Msg {
	t.Helper()
	reply, _, err := askMsg(m, query(t, question))
	if err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return reply
}

func askMsg(m *Mooring, q *dns.Msg) (*dns.Msg, int, error) {
	w := &recorder{remote: &net.UDPAddr{IP: net.IPv4(10, 244, 1, 5), Port: 40000}}
	rcode, err := m.ServeDNS(context.Background(), w, q)
	return w.reply, rcode, err
}

func query(t testing.TB, question string) *dns.Msg {
	t.Helper()
	owner, typ, found := strings.Cut(question, " ")
	if !found || dns.StringToType[typ] == 0 {
		t.Fatalf("not a question: %q", question)
	}
	return new(dns.Msg).SetQuestion(owner, dns.StringToType[typ])
}

// recorder is a dns.ResponseWriter that keeps the reply.
type recorder struct {
	dns.ResponseWriter
	remote net.Addr
	reply  *dns.Msg
}

func (r *recorder) WriteMsg(m *dns.Msg) error { r.reply = m; return nil }
func (r *recorder) RemoteAddr() net.Addr      { return r.remote }
func (r *recorder) LocalAddr() net.Addr       { return &net.UDPAddr{IP: net.IPv4(10, 244, 1, 2), Port: 53} }

// text writes a reply as rcode and records, one a line, each section marked.
func text(m *dns.Msg) string {
	if m == nil {
		return "no reply"
	}
	var b strings.Builder
	b.WriteString(dns.RcodeToString[m.Rcode])
	if !m.Authoritative {
		b.WriteString(" not authoritative")
	}
	if m.Truncated {
		b.WriteString(" truncated")
	}
	section(&b, "", m.Answer)
	section(&b, "authority: ", m.Ns)
	section(&b, "additional: ", m.Extra)
	return b.String()
}

func section(b *strings.Builder, mark string, records []dns.RR) {
	for _, rr := range records {
		b.WriteString("\n" + mark + strings.ReplaceAll(rr.String(), "\t", " "))
	}
}

// soaLine is how the authority section of a negative answer reads.
func soaLine(zone string) string { return soaOf(zone, "1800000000") }

func soaOf(zone, serial string) string {
	return "\nauthority: " + zone + " 5 IN SOA ns.dns." + zone + " hostmaster." + zone + " " + serial + " 7200 1800 86400 5"
}

// putBig adds prod/big, a headless Service with a hundred endpoints.
func putBig(m *Mooring) {
	var endpoints []model.Endpoint
	for i := range 100 {
		e := endpoint("10.244.9.0")
		e.Addr = netip.AddrFrom4([4]byte{10, 244, 9, byte(i)})
		endpoints = append(endpoints, e)
	}
	m.Store.Update(changed, func(tx *state.Txn) {
		tx.PutService(&model.Service{Key: key("prod", "big"), Headless: true})
		tx.PutSlice(slice("prod", "big", endpoints...))
	})
}
