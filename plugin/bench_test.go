package mooring

import (
	"context"
	"net"
	"testing"

	"github.com/miekg/dns"
)

// benchmarks are questions with the number of allocations that the plugin may make for
// each; 0 sets no limit.
var benchmarks = []struct {
	name, ask string
	edns      bool
	allocs    float64
}{
	{"ClusterIP A", "web.default.svc.cluster.local. A", false, 6},
	{"ClusterIP A 0x20", "wEb.default.SVC.cluster.local. A", false, 6},
	{"ClusterIP A EDNS", "web.default.svc.cluster.local. A", true, 6},
	{"ClusterIP AAAA no data", "web.default.svc.cluster.local. AAAA", false, 6},
	{"NXDOMAIN", "none.default.svc.cluster.local. A", false, 6},
	{"NXDOMAIN EDNS", "none.default.svc.cluster.local. A", true, 6},
	{"NXDOMAIN search path", "www.example.com.default.svc.cluster.local. A", false, 6},
	{"headless-2 A", "db.prod.svc.cluster.local. A", false, 6},
	{"headless-100 A", "big.prod.svc.cluster.local. A", false, 6},
	{"headless-100 A EDNS 4096", "big.prod.svc.cluster.local. A", true, 6},
	{"ClusterIP SRV", "_http._tcp.web.default.svc.cluster.local. SRV", false, 0},
	{"headless-100 SRV", "_http._tcp.big.prod.svc.cluster.local. SRV", false, 0},
	{"ClusterIP PTR", "1.0.96.10.in-addr.arpa. PTR", false, 6},
	{"endpoint A", "db-0.db.prod.svc.cluster.local. A", false, 0},
	{"endpoint of 100 A", "10-244-9-77.big.prod.svc.cluster.local. A", false, 6},
	{"Pod A", "10-244-1-5.default.pod.cluster.local. A", false, 0},
}

const benchStanza = "mooring cluster.local in-addr.arpa ip6.arpa {\npods insecure\nfallthrough in-addr.arpa ip6.arpa\nttl 30\n}"

func benchPlugin(t testing.TB) *Mooring {
	t.Helper()
	m := newTestPlugin(t, benchStanza)
	putBig(m)
	return m
}

// BenchmarkServeDNS measures the plugin's own work for one query, without the server
// and the packing of the reply.
func BenchmarkServeDNS(b *testing.B) {
	m := benchPlugin(b)
	for _, bench := range benchmarks {
		b.Run(bench.name, func(b *testing.B) {
			serve := server(b, m, bench.ask, bench.edns)
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}

func TestAllocations(t *testing.T) {
	m := benchPlugin(t)
	for _, bench := range benchmarks {
		if bench.allocs == 0 {
			continue
		}
		if got := testing.AllocsPerRun(200, server(t, m, bench.ask, bench.edns)); got > bench.allocs {
			t.Errorf("%s: %.0f allocations, want at most %.0f", bench.name, got, bench.allocs)
		}
	}
}

// server gives a function that asks one question.
func server(t testing.TB, m *Mooring, question string, edns bool) func() {
	t.Helper()
	q := query(t, question)
	if edns {
		q.SetEdns0(4096, false)
	}
	w := &recorder{remote: &net.UDPAddr{IP: net.IPv4(10, 244, 1, 5), Port: 40000}}
	ctx := context.Background()
	return func() {
		if rcode, err := m.ServeDNS(ctx, w, q); err != nil || rcode != dns.RcodeSuccess {
			t.Fatal(rcode, err)
		}
	}
}
