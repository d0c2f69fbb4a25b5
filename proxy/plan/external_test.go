package plan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// published is a Service with an address of a load balancer and an external one.
func published(edit ...func(*model.Service)) *model.Service {
	return service(append([]func(*model.Service){func(s *model.Service) {
		s.Type = model.LoadBalancer
		s.LoadBalancerIPs, s.ExternalIPs = []netip.Addr{addr("203.0.113.1")}, []netip.Addr{addr("198.51.100.1")}
	}}, edit...)...)
}

func local(s *model.Service) { s.ExternalTrafficPolicy = model.Local }

// beside gives the objects of a Service's plan that are not its ClusterIP's.
func beside(c Context, s *model.Service, slices ...*model.EndpointSlice) string {
	var lines []string
	for line := range strings.Lines(c.Service(&state.Service{Service: s, Slices: slices}).String()) {
		if !strings.Contains(line, "10.96.0.10") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

func TestPublishedAddresses(t *testing.T) {
	here, there := ready("10.244.1.2", "node-1"), ready("10.244.2.2", "node-2")
	with := node
	with.ExternalIPs = true
	tests := []struct {
		name      string
		context   Context
		service   *model.Service
		endpoints []model.Endpoint
		want      []string
	}{
		{"externalIPs switched off", node, published(), []model.Endpoint{there}, []string{
			"virtual-server tcp 203.0.113.1:80 scheduler rr",
			"real-server tcp 203.0.113.1:80 -> 10.244.2.2:8080 weight 1",
			"owned tcp 203.0.113.1:80",
			"divert tcp 203.0.113.1:80",
			"masquerade tcp 203.0.113.1:80",
		}},
		{"policy Cluster", with, published(), []model.Endpoint{there}, []string{
			"virtual-server tcp 198.51.100.1:80 scheduler rr",
			"virtual-server tcp 203.0.113.1:80 scheduler rr",
			"real-server tcp 198.51.100.1:80 -> 10.244.2.2:8080 weight 1",
			"real-server tcp 203.0.113.1:80 -> 10.244.2.2:8080 weight 1",
			"owned tcp 198.51.100.1:80",
			"owned tcp 203.0.113.1:80",
			"divert tcp 198.51.100.1:80",
			"divert tcp 203.0.113.1:80",
			"masquerade tcp 198.51.100.1:80",
			"masquerade tcp 203.0.113.1:80",
		}},
		{"source ranges", node, published(func(s *model.Service) {
			s.LoadBalancerSourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.7/24"), netip.MustParsePrefix("fd00::/8")}
		}), []model.Endpoint{there}, []string{
			"virtual-server tcp 203.0.113.1:80 scheduler rr",
			"real-server tcp 203.0.113.1:80 -> 10.244.2.2:8080 weight 1",
			"owned tcp 203.0.113.1:80",
			"divert tcp 203.0.113.1:80",
			"masquerade tcp 203.0.113.1:80",
			"firewall tcp 203.0.113.1:80",
			"firewall-allow tcp 203.0.113.1:80 from 198.51.100.0/24",
		}},
		{"source ranges of everybody, no endpoints", node, published(func(s *model.Service) {
			s.LoadBalancerSourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0")}
		}), nil, []string{"reject tcp 203.0.113.1:80"}},
		{"no endpoints anywhere", node, published(local), nil, []string{"reject tcp 203.0.113.1:80"}},
		{"policy Local, an endpoint on either node", node, published(local), []model.Endpoint{here, there}, []string{
			"virtual-server tcp ipv4 fwmark 0x95000035 scheduler rr",
			"virtual-server tcp 203.0.113.1:80 scheduler rr",
			"real-server tcp ipv4 fwmark 0x95000035 -> 10.244.1.2:8080 weight 1",
			"real-server tcp ipv4 fwmark 0x95000035 -> 10.244.2.2:8080 weight 1",
			"real-server tcp 203.0.113.1:80 -> 10.244.1.2:8080 weight 1",
			"owned tcp 203.0.113.1:80",
			"owned-mark tcp ipv4 fwmark 0x95000035",
			"split tcp 203.0.113.1:80 -> fwmark 0x95000035",
			"divert tcp 203.0.113.1:80",
			"keep-source tcp 203.0.113.1:80",
			"hairpin 10.244.1.2",
		}},
		{"policy Local, no endpoint here", node, published(local), []model.Endpoint{there}, []string{
			"virtual-server tcp ipv4 fwmark 0x95000035 scheduler rr",
			"real-server tcp ipv4 fwmark 0x95000035 -> 10.244.2.2:8080 weight 1",
			"owned-mark tcp ipv4 fwmark 0x95000035",
			"split tcp 203.0.113.1:80 -> fwmark 0x95000035",
			"divert tcp 203.0.113.1:80",
			"drop-outside tcp 203.0.113.1:80",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := beside(test.context, test.service, slice("a", model.TCP, test.endpoints...))
			if diff := cmp.Diff(strings.Join(test.want, "\n"), got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInternalPolicyLocalWithoutLocalEndpointDrops(t *testing.T) {
	s := service(func(s *model.Service) { s.InternalTrafficPolicy = model.Local })
	got := node.Service(&state.Service{Service: s, Slices: []*model.EndpointSlice{slice("a", model.TCP, ready("10.244.2.2", "node-2"))}}).String()
	if want := "drop tcp 10.96.0.10:80\n"; got != want {
		t.Errorf("plan:\n%swant:\n%s", got, want)
	}
}

// balancerOf gives an address of its own to each name that consists of x and a last letter.
func balancerOf(name string) netip.Addr {
	return netip.AddrFrom4([4]byte{203, 0, byte(len(name)), name[len(name)-1]})
}

// markOf gives the mark that a context gives to a Service of a name.
func markOf(t *testing.T, c Context, name string) uint32 {
	t.Helper()
	s := published(local, func(s *model.Service) { s.Key.Name = name })
	s.LoadBalancerIPs = []netip.Addr{balancerOf(name)}
	p := c.Service(&state.Service{Service: s, Slices: []*model.EndpointSlice{slice("a", model.TCP, ready("10.244.2.2", "node-2"))}})
	for key, value := range p {
		if key.Kind == Split {
			return value.Mark
		}
	}
	t.Fatalf("no mark in:\n%s", p)
	return 0
}

func TestMarksDoNotMeetAndLast(t *testing.T) {
	// Two names that prefer the same mark.
	byMark, one, other := map[uint32]string{}, "", ""
	for i := 0; other == ""; i++ {
		name := strings.Repeat("x", i/26) + string(rune('a'+i%26))
		mark := slotMark(preferred(model.ServiceKey{Namespace: "default", Name: name}, view{protocol: model.TCP}), model.TCP)
		if first, met := byMark[mark]; met {
			one, other = first, name
		}
		byMark[mark] = name
	}
	c := node
	c.Marks = NewMarks()
	first, second := markOf(t, c, one), markOf(t, c, other)
	if first == second {
		t.Fatalf("%q and %q share mark %#x", one, other, first)
	}
	if again := markOf(t, c, one); again != first {
		t.Errorf("mark of %q is %#x when it is planned again, was %#x", one, again, first)
	}

	// After a restart, in the other order.
	observed := Plan{}
	for name, mark := range map[string]uint32{one: first, other: second} {
		observed[Key{Kind: Split, Protocol: model.TCP, Port: 80, Addr: balancerOf(name)}] = Value{Mark: mark}
	}
	c.Marks = NewMarks()
	c.Marks.Adopt(observed)
	if a, b := markOf(t, c, other), markOf(t, c, one); a != second || b != first {
		t.Errorf("marks after a restart %#x, %#x, were %#x, %#x", b, a, first, second)
	}

	c.Marks.Forget(model.ServiceKey{Namespace: "default", Name: one})
	if got := len(c.Marks.taken); got != 1 {
		t.Errorf("%d marks taken after one of two was given back", got)
	}
}

func TestMarksSayTheProtocolAndKeepOffTheBitsOfOthers(t *testing.T) {
	seen := map[uint32]bool{}
	for _, protocol := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
		for slot := range uint32(numberOfSlots) {
			mark := slotMark(slot, protocol)
			if mark&^MarkBits != 0 || mark&0x00ffff80 != 0 || mark>>markShift == 0 || seen[mark] || MarkKey(VirtualServer, mark, false).Protocol != protocol {
				t.Fatalf("slot %d of %s: mark %#x", slot, protocol, mark)
			}
			seen[mark] = true
		}
	}
}

// Two Services that claim one external address: one has it, with its endpoints alone.
func TestOneAddressBelongsToOneService(t *testing.T) {
	with := node
	with.ExternalIPs = true
	fragment := func(name, endpoint string) Plan {
		s := published(func(s *model.Service) {
			s.Key.Name = name
			s.LoadBalancerIPs, s.ClusterIPs = nil, []netip.Addr{addr(endpoint).Next()}
		})
		return with.Service(&state.Service{Service: s, Slices: []*model.EndpointSlice{slice("a", model.TCP, ready(endpoint, "node-2"))}})
	}
	a, b := model.ServiceKey{Namespace: "default", Name: "a"}, model.ServiceKey{Namespace: "default", Name: "b"}
	assembly := NewAssembly()
	want := func(when, endpoint string) {
		t.Helper()
		var got []string
		for key := range assembly.Plan() {
			if key.Kind == RealServer && key.Addr == addr("198.51.100.1") {
				got = append(got, key.Endpoint.Addr().String())
			}
		}
		if diff := cmp.Diff([]string{endpoint}, got); diff != "" {
			t.Errorf("%s: endpoints (-want +got):\n%s", when, diff)
		}
	}
	assembly.Replace(b, fragment("b", "10.244.2.20"))
	want("one Service", "10.244.2.20")
	assembly.Replace(a, fragment("a", "10.244.2.10"))
	want("two Services", "10.244.2.10")
	assembly.Replace(b, fragment("b", "10.244.2.21"))
	want("the second one changes", "10.244.2.10")
	assembly.Replace(a, nil)
	want("the first one goes", "10.244.2.21")
}

// A Service cannot take another's ClusterIP by naming it as an external address, whatever their
// names and whoever is there first.
func TestAClusterIPBelongsToItsService(t *testing.T) {
	with := node
	with.ExternalIPs = true
	victim, thief := addr("10.96.0.10"), "aaa"
	owner := published(func(s *model.Service) { s.LoadBalancerIPs, s.ClusterIPs = nil, []netip.Addr{victim} })
	other := published(func(s *model.Service) {
		s.Key.Name, s.LoadBalancerIPs, s.ClusterIPs = thief, nil, []netip.Addr{addr("10.96.0.11")}
		s.ExternalIPs = []netip.Addr{victim}
	})
	planned := map[model.ServiceKey]Plan{}
	for service, endpoint := range map[*model.Service]string{owner: "10.244.2.10", other: "10.244.2.20"} {
		planned[service.Key] = with.Service(&state.Service{Service: service, Slices: []*model.EndpointSlice{slice("a", model.TCP, ready(endpoint, "node-2"))}})
	}
	for _, order := range [][]*model.Service{{owner, other}, {other, owner}} {
		assembly := NewAssembly()
		for _, service := range order {
			assembly.Replace(service.Key, planned[service.Key], service.ClusterIPs...)
		}
		for key := range assembly.Plan() {
			if key.Kind == RealServer && key.Addr == victim && key.Endpoint.Addr() != addr("10.244.2.10") {
				t.Errorf("%s first: %s", order[0].Key, key)
			}
		}
	}
}
