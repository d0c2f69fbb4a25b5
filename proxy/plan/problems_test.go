package plan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

func TestAddressesThatCannotBeServed(t *testing.T) {
	parse := func(texts string) (all []netip.Addr) {
		for text := range strings.FieldsSeq(texts) {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	tests := []struct {
		name                                 string
		cluster, external, balancer, backend string
		// served are the addresses of virtual servers, problems the fields that are told.
		served, problems string
	}{
		{"all are fit", "10.96.0.10", "203.0.113.1", "203.0.113.2", "10.244.1.2", "10.96.0.10 203.0.113.1 203.0.113.2", ""},
		{"externalIPs", "10.96.0.10", "127.0.0.1 203.0.113.1 0.0.0.0", "", "10.244.1.2", "10.96.0.10 203.0.113.1", "spec.externalIPs"},
		{"a load balancer's", "10.96.0.10", "", "169.254.169.254", "10.244.1.2", "10.96.0.10", "status.loadBalancer.ingress"},
		{"a Service network of link-local addresses", "169.254.0.10", "", "", "10.244.1.2", "169.254.0.10", ""},
		{"a ClusterIP", "127.0.0.1", "", "", "10.244.1.2", "", "spec.clusterIPs"},
		{"endpoints", "10.96.0.10", "", "", "255.255.255.255 10.244.1.2", "10.96.0.10", "endpoints of EndpointSlice a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var endpoints []model.Endpoint
			for _, address := range parse(test.backend) {
				endpoints = append(endpoints, ready(address.String(), "node-1"))
			}
			context := node
			context.ExternalIPs = true
			entry := &state.Service{
				Service: service(func(s *model.Service) {
					s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs = parse(test.cluster), parse(test.external), parse(test.balancer)
				}),
				Slices: []*model.EndpointSlice{slice("a", model.TCP, endpoints...)},
			}
			served := map[netip.Addr]bool{}
			for key := range context.Service(entry) {
				if key.Kind == VirtualServer {
					served[key.Addr] = true
				}
			}
			want := map[netip.Addr]bool{}
			for _, address := range parse(test.served) {
				want[address] = true
			}
			if diff := cmp.Diff(want, served, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("served (-want +got):\n%s", diff)
			}
			var fields []string
			for _, p := range context.Problems(entry) {
				fields = append(fields, p.Field)
				if p.Kind != InvalidAddress || !strings.Contains(p.Reason, "left out") {
					t.Errorf("problem %+v", p)
				}
			}
			if got := strings.Join(fields, ", "); got != test.problems {
				t.Errorf("problems %q, want %q", got, test.problems)
			}
		})
	}
}
