package mooring

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/state"
)

// TestCompatStock has the answers in which the stock plugin differs from the
// specification or an RFC. The codes are those of plugin/README.md.
func TestCompatStock(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local 10.in-addr.arpa {\ncompat stock\npods insecure\n}")
	m.Upstream = resolver{"www.example.org.": outside(t, dns.RcodeNameError)}
	checkRecords(t, m, []record{
		{"D1 protocol alone", "_tcp.web.default.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"D1 dns", "dns.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"D1 partial reverse name", "0.96.10.in-addr.arpa. PTR", nxdomain + soaLine("10.in-addr.arpa.")},
		{"D2 SOA of a missing name", "none.default.svc.cluster.local. SOA", noerror + soaLine(zoneName)},
		{"D3 version, other type", "dns-version.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"D3 text at an empty non-terminal", "svc.cluster.local. TXT", nxdomain + soaLine(zoneName)},
		{"D4 spelling of the zone", "Cluster.local. NS", noerror + soaLine("Cluster.local.")},
		{"D5 address of a port", "_http._tcp.web.default.svc.cluster.local. A", noerror +
			"\n_http._tcp.web.default.svc.cluster.local. 5 IN A 10.96.0.1"},
		{"D6 no underscores", "http.tcp.web.default.svc.cluster.local. SRV", noerror +
			"\nhttp.tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local." +
			"\nadditional: web.default.svc.cluster.local. 5 IN A 10.96.0.1"},
		{"D7 labels before a Pod's", "x.y.1-2-3-4.default.pod.cluster.local. A", noerror +
			"\nx.y.1-2-3-4.default.pod.cluster.local. 5 IN A 1.2.3.4"},
		{"D8 alias, other type", "out.prod.svc.cluster.local. MX", noerror + soaLine(zoneName)},
		{"D9 alias to nothing", "lost.prod.svc.cluster.local. A", noerror + soaLine(zoneName)},
		{"D9 alias to nothing outside", "out.prod.svc.cluster.local. A", noerror + "\nout.prod.svc.cluster.local. 5 IN CNAME www.example.org."},
		{"D9 alias to itself", "loop.prod.svc.cluster.local. A", noerror + soaLine(zoneName)},
		{"D9 alias to an address", "digits.prod.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"D11 svc in a reverse zone", "svc.10.in-addr.arpa. A", noerror + soaLine("10.in-addr.arpa.")},
		{"reverse name, other type", "1.0.96.10.in-addr.arpa. A", nxdomain + soaLine("10.in-addr.arpa.")},
	})
	m.Store.Update(changed, func(tx *state.Txn) { tx.DeleteNamespace("prod") })
	checkRecords(t, m, []record{
		{"D12 PTR into a namespace not selected", "7.1.244.10.in-addr.arpa. PTR", noerror +
			"\n7.1.244.10.in-addr.arpa. 5 IN PTR db-0.db.prod.svc.cluster.local."},
	})
}
