package mooring

import (
	"context"
	"net"
	"testing"
)

// BenchmarkServeDNS measures the plugin's own work for one query, without the server
// and the packing of the reply.
func BenchmarkServeDNS(b *testing.B) {
	m := newTestPlugin(b, "mooring cluster.local in-addr.arpa ip6.arpa {\nfallthrough in-addr.arpa ip6.arpa\nttl 30\n}")
	for name, question := range map[string]string{
		"ClusterIP A":      "web.default.svc.cluster.local. A",
		"ClusterIP A 0x20": "wEb.default.SVC.cluster.local. A",
		"ClusterIP AAAA":   "web.default.svc.cluster.local. AAAA",
		"headless-2 A":     "db.prod.svc.cluster.local. A",
		"unknown Service":  "none.default.svc.cluster.local. A",
		"search path":      "www.example.com.default.svc.cluster.local. A",
	} {
		b.Run(name, func(b *testing.B) {
			q := query(b, question)
			w := &recorder{remote: &net.UDPAddr{IP: net.IPv4(10, 244, 1, 5), Port: 40000}}
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.ServeDNS(ctx, w, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
