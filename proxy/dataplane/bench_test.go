package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// BenchmarkEndpointChange replaces one endpoint of one Service, beside more and more
// Services: the cost must not grow with their number.
func BenchmarkEndpointChange(b *testing.B) {
	for _, services := range []int{10, 1000, 5000} {
		b.Run(fmt.Sprintf("%d services", services), func(b *testing.B) {
			kernel := ready(b)
			apply(b, kernel, manyServices(services))
			server := plan.Key{
				Kind: plan.RealServer, Protocol: model.TCP, Addr: netip.MustParseAddr("10.96.0.1"), Port: 80,
			}
			turn := byte(0)
			for b.Loop() {
				turn++
				old, next := server, server
				old.Endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, turn - 1}), 8080)
				next.Endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, turn}), 8080)
				ops := plan.Diff(plan.Plan{old: {Weight: 1}, hairpin(old): {}}, plan.Plan{next: {Weight: 1}, hairpin(next): {}})
				if _, err := kernel.Apply(b.Context(), ops); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkObserve reads everything back.
func BenchmarkObserve(b *testing.B) {
	kernel := ready(b)
	apply(b, kernel, manyServices(1000))
	for b.Loop() {
		if _, err := kernel.Observe(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func hairpin(server plan.Key) plan.Key {
	return plan.Key{Kind: plan.Hairpin, Endpoint: netip.AddrPortFrom(server.Endpoint.Addr(), 0)}
}

func manyServices(n int) plan.Plan {
	p := base()
	for i := 1; i <= n; i++ {
		server := plan.Key{
			Kind: plan.VirtualServer, Protocol: model.TCP, Port: 80,
			Addr: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}),
		}
		p[server] = plan.Value{Scheduler: "rr"}
		for _, kind := range []plan.Kind{plan.Owned, plan.Divert} {
			server.Kind = kind
			p[server] = plan.Value{}
		}
	}
	return p
}
