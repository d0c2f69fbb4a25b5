package dataplane_test

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
)

// The tests of this file put Services through the planner into the kernel, and look at who
// answers whom, and what source the answerer sees.

const thisNode, otherNode = "node-1", "node-2"

func balancerAddr(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.MustParseAddr("2001:db8:10::10")
	}
	return netip.MustParseAddr("203.0.113.10")
}

func externalAddr(ipv6 bool) netip.Addr { return balancerAddr(ipv6).Next() }

// context is the node of the lab.
func (l *lab) context() plan.Context {
	return plan.Context{
		Place:         policy.Place{Node: thisNode},
		NodeAddresses: []netip.Addr{l.node.v4, l.node.v6},
		PodCIDRs:      []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")},
		Scheduler:     "rr", ExternalIPs: true, Marks: plan.NewMarks(),
	}
}

// everywhere is a Service on port 80 of a ClusterIP, a load balancer's address and an external
// address, and NodePort 30080.
func (w way) everywhere(edit ...func(*model.Service)) *model.Service {
	s := &model.Service{
		Key: model.ServiceKey{Namespace: "default", Name: "web"}, Type: model.LoadBalancer,
		ClusterIPs:      []netip.Addr{serviceAddr(w.ipv6)},
		LoadBalancerIPs: []netip.Addr{balancerAddr(w.ipv6)}, ExternalIPs: []netip.Addr{externalAddr(w.ipv6)},
		Ports: []model.ServicePort{{Protocol: w.protocol, Port: 80, NodePort: 30080}},
	}
	for _, f := range edit {
		f(s)
	}
	return s
}

func externalLocal(s *model.Service) { s.ExternalTrafficPolicy = model.Local }
func internalLocal(s *model.Service) { s.InternalTrafficPolicy = model.Local }

// entry is a Service with ready endpoints on port 8080, each on its node.
func (l *lab) entry(w way, service *model.Service, endpoints ...*host) *state.Service {
	slice := &model.EndpointSlice{Name: "a", Service: service.Key, Ports: []model.EndpointPort{{Protocol: w.protocol, Port: 8080}}}
	for _, h := range endpoints {
		node := thisNode
		if h == l.remote {
			node = otherNode
		}
		slice.Endpoints = append(slice.Endpoints, model.Endpoint{Addr: h.addr(w.ipv6), Ready: true, Serving: true, About: &model.About{Node: node}})
	}
	return &state.Service{Service: service, Slices: []*model.EndpointSlice{slice}}
}

// run puts Services into the kernel.
func (l *lab) run(c plan.Context, entries ...*state.Service) {
	l.t.Helper()
	want := base()
	maps.DeleteFunc(want, func(k plan.Key, _ plan.Value) bool { return k.Kind == plan.PodCIDR && len(c.PodCIDRs) == 0 })
	for _, entry := range entries {
		maps.Copy(want, c.Service(entry))
	}
	l.want(want)
}

// routes leads the client to the addresses of load balancers.
func (l *lab) routes() {
	l.client.Route(netip.MustParsePrefix("203.0.113.0/24"), "eth0", l.node.v4)
	l.client.Route(netip.MustParsePrefix("2001:db8:10::/64"), "eth0", l.node.v6)
}

// answers asks often enough that every endpoint gets its turn, and gives the sorted answers
// without repetition, or the error.
func (w way) answers(t *testing.T, from *host, addr netip.Addr, port uint16, times int) []string {
	t.Helper()
	var got []string
	for range times {
		answer, err := w.ask(from, addr, port)
		if err != nil {
			return []string{err.Error()}
		}
		got = append(got, answer)
	}
	slices.Sort(got)
	return slices.Compact(got)
}

func isTimeout(err error) bool {
	timeout, ok := err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

// flow is a row of the table of who sees what.
type flow struct {
	from *host
	to   string
	// want is who answers and the source that is seen.
	want string
}

// check checks a table of flows.
func (l *lab) check(t *testing.T, w way, flows []flow) {
	t.Helper()
	fronts := map[string]netip.AddrPort{
		"ClusterIP": netip.AddrPortFrom(serviceAddr(w.ipv6), 80), "NodePort": netip.AddrPortFrom(l.node.addr(w.ipv6), 30080),
		"LB": netip.AddrPortFrom(balancerAddr(w.ipv6), 80), "externalIP": netip.AddrPortFrom(externalAddr(w.ipv6), 80),
	}
	for _, f := range flows {
		for to := range strings.FieldsSeq(f.to) {
			front := fronts[to]
			got := strings.Join(w.answers(t, f.from, front.Addr(), front.Port(), 2), ", ")
			if got != f.want {
				t.Errorf("%s -> %s: %q, want %q", f.from.name, to, got, f.want)
			}
		}
	}
}

const outside = "NodePort LB externalIP"

// The rows are those of kube-proxy's TestInternalExternalMasquerade.
func TestWhoSeesWhat(t *testing.T) {
	l := newLab(t)
	l.routes()
	everyWay(t, l, func(t *testing.T, w way) {
		for _, h := range []*host{l.pod2, l.remote} {
			w.serve(t, h, 8080)
		}
		node, pod, client := " "+l.node.addr(w.ipv6).String(), " "+l.pod1.addr(w.ipv6).String(), " "+l.client.addr(w.ipv6).String()
		both := func(source string) string { return "pod2" + source + ", remote" + source }
		endpoints := []*host{l.pod2, l.remote}

		t.Run("plain", func(t *testing.T) {
			l.run(l.context(), l.entry(w, w.everywhere(), endpoints...))
			l.check(t, w, []flow{
				{l.pod1, "ClusterIP", both(pod)},
				{l.node, "ClusterIP", both(node)},
				{l.client, "ClusterIP", both(node)},
				{l.pod1, outside, both(node)},
				{l.node, outside, both(node)},
				{l.client, outside, both(node)},
			})
		})
		t.Run("externalTrafficPolicy Local", func(t *testing.T) {
			l.run(l.context(), l.entry(w, w.everywhere(externalLocal), endpoints...))
			l.check(t, w, []flow{
				{l.pod1, "ClusterIP", both(pod)},
				{l.node, "ClusterIP", both(node)},
				{l.client, "ClusterIP", both(node)},
				{l.pod1, outside, both(pod)},
				{l.node, outside, both(node)},
				{l.client, outside, "pod2" + client},
			})
		})
		t.Run("internalTrafficPolicy Local", func(t *testing.T) {
			l.run(l.context(), l.entry(w, w.everywhere(internalLocal), endpoints...))
			l.check(t, w, []flow{
				{l.pod1, "ClusterIP", "pod2" + pod},
				{l.node, "ClusterIP", "pod2" + node},
				{l.client, "ClusterIP", "pod2" + node},
				{l.pod1, outside, both(node)},
				{l.node, outside, both(node)},
				{l.client, outside, both(node)},
			})
		})
		t.Run("externalTrafficPolicy Local, nothing known of pods", func(t *testing.T) {
			c := l.context()
			c.PodCIDRs = nil
			l.run(c, l.entry(w, w.everywhere(externalLocal), endpoints...))
			l.check(t, w, []flow{
				{l.pod1, outside, "pod2" + pod}, {l.node, outside, both(node)}, {l.client, outside, "pod2" + client},
			})
		})
	})
}

func TestPodsToldByTheirInterface(t *testing.T) {
	for _, name := range []string{"pod*", "pod1"} {
		t.Run(name, func(t *testing.T) {
			l, w := newLab(t), way{false, model.TCP}
			l.routes()
			l.node.Do(func() {
				kernel, err := dataplane.Open(dataplane.Options{IPv4: true, IPv6: true, PodInterface: name})
				if err == nil {
					err = kernel.Setup(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
				l.kernel = kernel
				t.Cleanup(func() { kernel.Close() })
			})
			for _, h := range []*host{l.pod2, l.remote} {
				w.serve(t, h, 8080)
			}
			c := l.context()
			c.PodCIDRs = nil
			l.run(c, l.entry(w, w.everywhere(externalLocal), l.pod2, l.remote))
			node, pod, client := l.node.v4.String(), l.pod1.v4.String(), l.client.v4.String()
			l.check(t, w, []flow{
				{l.pod1, "ClusterIP " + outside, "pod2 " + pod + ", remote " + pod},
				{l.node, "ClusterIP " + outside, "pod2 " + node + ", remote " + node},
				{l.client, "ClusterIP", "pod2 " + node + ", remote " + node},
				{l.client, outside, "pod2 " + client},
			})
			l.run(c, l.entry(w, w.everywhere(externalLocal), l.remote))
			l.check(t, w, []flow{{l.pod1, "LB", "remote " + pod}})
			w.silent(t, l.client, balancerAddr(w.ipv6), 80)
		})
	}
}

func TestPodReachesItselfThroughEveryAddress(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		w.serve(t, l.pod1, 8080)
		itself := "pod1 " + l.node.addr(w.ipv6).String()
		for _, service := range []*model.Service{w.everywhere(), w.everywhere(externalLocal), w.everywhere(internalLocal)} {
			l.run(l.context(), l.entry(w, service, l.pod1))
			l.check(t, w, []flow{{l.pod1, "ClusterIP " + outside, itself}})
		}
	})
}

func TestLocalWithoutLocalEndpoints(t *testing.T) {
	l := newLab(t)
	l.routes()
	for _, w := range []way{{false, model.TCP}, {true, model.UDP}} {
		t.Run(w.String(), func(t *testing.T) {
			l.t = t
			w.serve(t, l.remote, 8080)
			node, pod := " "+l.node.addr(w.ipv6).String(), " "+l.pod1.addr(w.ipv6).String()
			l.run(l.context(), l.entry(w, w.everywhere(externalLocal), l.remote))
			l.check(t, w, []flow{
				{l.pod1, outside, "remote" + pod},
				{l.node, outside, "remote" + node},
				{l.client, "ClusterIP", "remote" + node},
			})
			w.silent(t, l.client, l.node.addr(w.ipv6), 30080)
			w.silent(t, l.client, balancerAddr(w.ipv6), 80)
			w.silent(t, l.client, externalAddr(w.ipv6), 80)
			l.run(l.context(), l.entry(w, w.everywhere(internalLocal), l.remote))
			l.check(t, w, []flow{{l.client, "LB", "remote" + node}})
			for _, from := range []*host{l.pod1, l.node, l.client} {
				w.silent(t, from, serviceAddr(w.ipv6), 80)
			}
			l.run(l.context(), l.entry(w, w.everywhere(externalLocal, internalLocal)))
			for _, from := range []*host{l.pod1, l.node, l.client} {
				w.refused(t, from, serviceAddr(w.ipv6), 80)
				w.refused(t, from, balancerAddr(w.ipv6), 80)
				w.refused(t, from, l.node.addr(w.ipv6), 30080)
			}
		})
	}
}

func TestExternalAddressOfTheNodeTakesOnePort(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		w.serve(t, l.node, 9999)
		w.serve(t, l.pod2, 8080)
		node := l.node.addr(w.ipv6)
		l.run(l.context(), l.entry(w, w.everywhere(func(s *model.Service) { s.ExternalIPs = []netip.Addr{node} }), l.pod2))
		for _, from := range []*host{l.pod1, l.client} {
			w.expect(t, from, node, 80, l.pod2, node)
			w.expect(t, from, node, 9999, l.node, from.addr(w.ipv6))
		}
	})
}

func TestSourceRanges(t *testing.T) {
	l := newLab(t)
	l.routes()
	for _, w := range []way{{false, model.TCP}, {true, model.UDP}} {
		t.Run(w.String(), func(t *testing.T) {
			l.t = t
			w.serve(t, l.pod2, 8080)
			for _, policy := range []func(*model.Service){func(*model.Service) {}, externalLocal} {
				l.sourceRanges(t, w, policy)
			}
		})
	}
}

func (l *lab) sourceRanges(t *testing.T, w way, policy func(*model.Service)) {
	single := func(h *host) netip.Prefix { return netip.PrefixFrom(h.addr(w.ipv6), h.addr(w.ipv6).BitLen()) }
	admit := func(ranges ...netip.Prefix) {
		service := w.everywhere(policy, func(s *model.Service) { s.LoadBalancerSourceRanges = ranges })
		l.run(l.context(), l.entry(w, service, l.pod2))
	}
	everyone := []*host{l.pod1, l.node, l.client}
	for _, admitted := range everyone {
		admit(single(admitted))
		for _, from := range everyone {
			if from != admitted {
				w.silent(t, from, balancerAddr(w.ipv6), 80)
			} else if got, err := w.ask(from, balancerAddr(w.ipv6), 80); err != nil {
				t.Errorf("%s, which is admitted: answer %q, error %v", from.name, got, err)
			}
		}
	}
	// Ranges are for the addresses of load balancers alone, and may overlap.
	admit(network(l.client.addr(w.ipv6)), single(l.client))
	for to, port := range map[netip.Addr]uint16{balancerAddr(w.ipv6): 80, l.node.addr(w.ipv6): 30080, externalAddr(w.ipv6): 80} {
		if got, err := w.ask(l.client, to, port); err != nil {
			t.Errorf("client -> %s: answer %q, error %v", to, got, err)
		}
	}
}

// silent checks that a host gets neither an answer nor a refusal. A rule that drops what the
// host itself sends gives its sender EPERM.
func (w way) silent(t *testing.T, from *host, addr netip.Addr, port uint16) {
	t.Helper()
	const enough = 700 * time.Millisecond
	var got string
	var err error
	from.Do(func() {
		var conn net.Conn
		if conn, err = net.DialTimeout(w.network(), netip.AddrPortFrom(addr, port).String(), enough); err != nil {
			return
		}
		defer conn.Close()
		got, err = talkWithin(conn, enough)
	})
	if !isTimeout(err) && !errors.Is(err, syscall.EPERM) {
		t.Errorf("%s -> %s: answer %q, error %v; want silence", from.name, netip.AddrPortFrom(addr, port), got, err)
	}
}

// A client stays with its endpoint by whatever address it comes, until the endpoint goes.
func TestSessionAffinity(t *testing.T) {
	l := newLab(t)
	l.routes()
	everyWay(t, l, func(t *testing.T, w way) {
		for _, h := range []*host{l.pod2, l.remote} {
			w.serve(t, h, 8080)
		}
		for _, policy := range []func(*model.Service){func(*model.Service) {}, externalLocal} {
			service := w.everywhere(policy, func(s *model.Service) { s.AffinityTimeout = 3 * time.Hour })
			c := l.context()
			l.run(c, l.entry(w, service, l.pod2, l.remote))
			for to, port := range map[netip.Addr]uint16{serviceAddr(w.ipv6): 80, balancerAddr(w.ipv6): 80, l.node.addr(w.ipv6): 30080} {
				for _, from := range []*host{l.pod1, l.node, l.client} {
					if got := w.answers(t, from, to, port, 4); len(got) != 1 {
						t.Errorf("%s -> %s: %q", from.name, netip.AddrPortFrom(to, port), got)
					}
				}
			}
			l.run(c, l.entry(w, service, l.pod2))
			for _, from := range []*host{l.pod1, l.node, l.client} {
				if got := w.answers(t, from, serviceAddr(w.ipv6), 80, 1); !strings.HasPrefix(got[0], "pod2 ") {
					t.Errorf("%s, the other endpoint gone: %q", from.name, got)
				}
			}
			l.run(c)
		}
	})
}
