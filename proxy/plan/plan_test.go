package plan

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

var node = Context{
	Place:              policy.Place{Node: "node-1"},
	NodeAddresses:      []netip.Addr{addr("172.30.0.11"), addr("192.168.9.11"), addr("fd00::11")},
	PodCIDRs:           []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
	Scheduler:          "rr",
	LocalhostNodePorts: true,
}

func service(edit ...func(*model.Service)) *model.Service {
	s := &model.Service{
		Key:        model.ServiceKey{Namespace: "default", Name: "web"},
		ClusterIPs: []netip.Addr{addr("10.96.0.10")},
		Ports:      []model.ServicePort{{Protocol: model.TCP, Port: 80}},
	}
	for _, f := range edit {
		f(s)
	}
	return s
}

func slice(name string, protocol model.Protocol, endpoints ...model.Endpoint) *model.EndpointSlice {
	return &model.EndpointSlice{
		Name: name, Service: model.ServiceKey{Namespace: "default", Name: "web"},
		Ports: []model.EndpointPort{{Protocol: protocol, Port: 8080}}, Endpoints: endpoints,
	}
}

func ready(text, node string) model.Endpoint {
	return model.Endpoint{Addr: addr(text), Ready: true, Serving: true, About: &model.About{Node: node}}
}

func TestServicePlan(t *testing.T) {
	both := slice("a", model.TCP, ready("10.244.1.2", "node-1"), ready("10.244.2.2", "node-2"))
	nodePort := func(s *model.Service) { s.Type, s.Ports[0].NodePort = model.NodePort, 30080 }
	tests := []struct {
		name    string
		service *model.Service
		slices  []*model.EndpointSlice
		want    []string
	}{
		{"ClusterIP with an endpoint on this node and one on another", service(), []*model.EndpointSlice{both}, []string{
			"virtual-server tcp 10.96.0.10:80 scheduler rr",
			"real-server tcp 10.96.0.10:80 -> 10.244.1.2:8080 weight 1",
			"real-server tcp 10.96.0.10:80 -> 10.244.2.2:8080 weight 1",
			"owned tcp 10.96.0.10:80",
			"divert tcp 10.96.0.10:80",
			"hairpin 10.244.1.2",
		}},
		{"no endpoints: refused, nothing else", service(), nil, []string{"reject tcp 10.96.0.10:80"}},
		{"NodePort on every address of its family", service(nodePort), []*model.EndpointSlice{slice("a", model.TCP, ready("10.244.2.2", "node-2"))}, []string{
			"virtual-server tcp 10.96.0.10:80 scheduler rr",
			"virtual-server tcp 172.30.0.11:30080 scheduler rr",
			"virtual-server tcp 192.168.9.11:30080 scheduler rr",
			"real-server tcp 10.96.0.10:80 -> 10.244.2.2:8080 weight 1",
			"real-server tcp 172.30.0.11:30080 -> 10.244.2.2:8080 weight 1",
			"real-server tcp 192.168.9.11:30080 -> 10.244.2.2:8080 weight 1",
			"owned tcp 10.96.0.10:80",
			"owned tcp 172.30.0.11:30080",
			"owned tcp 192.168.9.11:30080",
			"divert tcp 10.96.0.10:80",
			"masquerade tcp 172.30.0.11:30080",
			"masquerade tcp 192.168.9.11:30080",
			"relay tcp 127.0.0.1:30080 -> 172.30.0.11:30080",
		}},
		{
			"session affinity: an endpoint has a virtual server of its own", service(func(s *model.Service) { s.AffinityTimeout = 3 * time.Hour }),
			[]*model.EndpointSlice{slice("a", model.TCP, ready("10.244.2.2", "node-2"))},
			[]string{
				"virtual-server tcp ipv4 fwmark 0x6a000035 scheduler rr",
				"virtual-server tcp 10.96.0.10:80 scheduler rr",
				"real-server tcp ipv4 fwmark 0x6a000035 -> 10.244.2.2:8080 weight 1",
				"real-server tcp 10.96.0.10:80 -> 10.244.2.2:8080 weight 1",
				"owned tcp 10.96.0.10:80",
				"owned-mark tcp ipv4 fwmark 0x6a000035",
				"pinned tcp ipv4 group 0x3200006d -> fwmark 0x6a000035",
				"pin tcp ipv4 group 0x3200006d at 10.244.2.2:8080 -> fwmark 0x6a000035",
				"affinity-timeout tcp ipv4 group 0x3200006d 10800s",
				"affinity-timeout tcp ipv4 group 0x320000ed 10800s",
				"affinity tcp 10.96.0.10:80 -> group 0x3200006d",
				"divert tcp 10.96.0.10:80",
			},
		},
		{"UDP over IPv6", service(func(s *model.Service) {
			s.ClusterIPs, s.Ports[0].Protocol = []netip.Addr{addr("fd00:10:96::a")}, model.UDP
		}), []*model.EndpointSlice{slice("a", model.UDP, ready("fd00:10:244:2::2", "node-2"))}, []string{
			"virtual-server udp [fd00:10:96::a]:80 scheduler rr",
			"real-server udp [fd00:10:96::a]:80 -> [fd00:10:244:2::2]:8080 weight 1",
			"owned udp [fd00:10:96::a]:80",
			"divert udp [fd00:10:96::a]:80",
		}},
		{"headless", service(func(s *model.Service) { s.Headless, s.ClusterIPs = true, nil }), []*model.EndpointSlice{both}, nil},
		{"ExternalName", service(func(s *model.Service) { s.Type, s.ClusterIPs = model.ExternalName, nil }), nil, nil},
		{"left to another proxy", service(func(s *model.Service) { s.ProxyName = "kube-router" }), []*model.EndpointSlice{both}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := strings.TrimSpace(node.Service(&state.Service{Service: test.service, Slices: test.slices}).String())
			if diff := cmp.Diff(strings.Join(test.want, "\n"), got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDiffAddsBeforeItTakesAway(t *testing.T) {
	before := node.Service(&state.Service{Service: service(), Slices: []*model.EndpointSlice{slice("a", model.TCP, ready("10.244.1.2", "node-1"))}})
	after := node.Service(&state.Service{Service: service()})
	var got []string
	for _, op := range append(Diff(before, after), Diff(after, before)...) {
		got = append(got, op.String())
	}
	want := []string{
		"add reject tcp 10.96.0.10:80",
		"delete divert tcp 10.96.0.10:80",
		"delete real-server tcp 10.96.0.10:80 -> 10.244.1.2:8080",
		"delete virtual-server tcp 10.96.0.10:80",
		"delete owned tcp 10.96.0.10:80",
		"delete hairpin 10.244.1.2",
		"add owned tcp 10.96.0.10:80",
		"add hairpin 10.244.1.2",
		"add virtual-server tcp 10.96.0.10:80 scheduler rr",
		"add real-server tcp 10.96.0.10:80 -> 10.244.1.2:8080 weight 1",
		"add divert tcp 10.96.0.10:80",
		"delete reject tcp 10.96.0.10:80",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

// drawPlan draws a plan from few keys and values, so that two of them overlap.
func drawPlan(t *rapid.T, label string) Plan {
	p := Plan{}
	for range rapid.IntRange(0, 12).Draw(t, label) {
		key := Key{
			Kind: Kind(rapid.IntRange(int(VirtualServer), int(Reject)).Draw(t, "kind")), Protocol: model.TCP,
			Port: rapid.Uint16Range(80, 82).Draw(t, "port"), Addr: addr("10.96.0.1"),
		}
		p[key] = Value{Weight: rapid.Uint32Range(0, 2).Draw(t, "weight")}
	}
	return p
}

func TestApplyingADiffGivesWhatIsWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := drawPlan(t, "have"), drawPlan(t, "want")
		if diff := cmp.Diff(want.String(), Apply(have, Diff(have, want)).String()); diff != "" {
			t.Fatalf("plan (-want +got):\n%s", diff)
		}
		if ops := Diff(want, want); len(ops) != 0 {
			t.Fatalf("operations between equal plans: %v", ops)
		}
	})
}

// drawOwn gives one address of a plan, or none.
func drawOwn(t *rapid.T, p Plan) []netip.Addr {
	for _, key := range slices.SortedFunc(maps.Keys(p), Key.Compare) {
		if key.Kind == VirtualServer && key.Mark == 0 && rapid.Bool().Draw(t, "own") {
			return []netip.Addr{key.Addr}
		}
	}
	return nil
}

func TestAssemblyDoesNotDependOnTheOrderOfEvents(t *testing.T) {
	owners := []model.ServiceKey{{Namespace: "a", Name: "x"}, {Namespace: "a", Name: "y"}, {Namespace: "b", Name: "x"}}
	rapid.Check(t, func(t *rapid.T) {
		warm, last, own := NewAssembly(), map[model.ServiceKey]Plan{}, map[model.ServiceKey][]netip.Addr{}
		applied := Plan{}
		for range rapid.IntRange(1, 20).Draw(t, "events") {
			owner := rapid.SampledFrom(owners).Draw(t, "owner")
			last[owner] = drawPlan(t, "fragment")
			own[owner] = drawOwn(t, last[owner])
			for _, key := range warm.Replace(owner, last[owner], own[owner]...) {
				have, inHave := applied[key]
				want, inWant := warm.Want(key)
				if op, needed := Change(key, have, inHave, want, inWant); needed {
					applied.Record(op)
				}
			}
		}
		cold := NewAssembly()
		for _, owner := range slices.Backward(owners) {
			cold.Replace(owner, last[owner], own[owner]...)
		}
		if diff := cmp.Diff(cold.Plan().String(), warm.Plan().String()); diff != "" {
			t.Fatalf("warm plan (-cold +warm):\n%s", diff)
		}
		if diff := cmp.Diff(cold.Plan().String(), applied.String()); diff != "" {
			t.Fatalf("what the changed keys led to (-cold +applied):\n%s", diff)
		}
	})
}
