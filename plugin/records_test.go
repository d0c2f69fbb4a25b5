package mooring

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/coredns/coredns/request"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// record is one question with the reply it shall have.
type record struct{ situation, ask, want string }

func checkRecords(t *testing.T, m *Mooring, records []record) {
	t.Helper()
	for _, r := range records {
		t.Run(r.situation, func(t *testing.T) {
			if diff := cmp.Diff(r.want, text(ask(t, m, r.ask))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", r.ask, diff)
			}
		})
	}
}

const (
	nxdomain = "NXDOMAIN"
	noerror  = "NOERROR"
)

func TestSRVRecords(t *testing.T) {
	checkRecords(t, newTestPlugin(t, "mooring cluster.local"), []record{
		{"named port", "_http._tcp.web.default.svc.cluster.local. SRV", noerror +
			"\n_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local." +
			"\nadditional: web.default.svc.cluster.local. 5 IN A 10.96.0.1"},
		{"target keeps the client's spelling of the zone", "_HTTP._tcp.web.default.svc.Cluster.LOCAL. SRV", noerror +
			"\n_HTTP._tcp.web.default.svc.Cluster.LOCAL. 5 IN SRV 0 100 80 web.default.svc.Cluster.LOCAL." +
			"\nadditional: web.default.svc.Cluster.LOCAL. 5 IN A 10.96.0.1"},
		{"dual stack is one target with two addresses", "_http._tcp.dual.default.svc.cluster.local. SRV", noerror +
			"\n_http._tcp.dual.default.svc.cluster.local. 5 IN SRV 0 50 80 dual.default.svc.cluster.local." +
			"\nadditional: dual.default.svc.cluster.local. 5 IN A 10.96.0.2" +
			"\nadditional: dual.default.svc.cluster.local. 5 IN AAAA fd00:10:96::2"},
		{"headless", "_http._tcp.db.prod.svc.cluster.local. SRV", noerror +
			"\n_http._tcp.db.prod.svc.cluster.local. 5 IN SRV 0 50 8080 db-0.db.prod.svc.cluster.local." +
			"\n_http._tcp.db.prod.svc.cluster.local. 5 IN SRV 0 50 8080 10-244-2-7.db.prod.svc.cluster.local." +
			"\nadditional: db-0.db.prod.svc.cluster.local. 5 IN A 10.244.1.7" +
			"\nadditional: 10-244-2-7.db.prod.svc.cluster.local. 5 IN A 10.244.2.7"},
		{"all ports of a Service", "kube-dns.kube-system.svc.cluster.local. SRV", noerror +
			"\nkube-dns.kube-system.svc.cluster.local. 5 IN SRV 0 33 53 kube-dns.kube-system.svc.cluster.local." +
			"\nkube-dns.kube-system.svc.cluster.local. 5 IN SRV 0 33 9153 kube-dns.kube-system.svc.cluster.local." +
			"\nadditional: kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10"},
		{"other protocol", "_http._udp.web.default.svc.cluster.local. SRV", nxdomain + soaLine(zoneName)},
		{"other port", "_https._tcp.web.default.svc.cluster.local. SRV", nxdomain + soaLine(zoneName)},
		{"without underscores", "http.tcp.web.default.svc.cluster.local. SRV", nxdomain + soaLine(zoneName)},
		{"address at a port", "_http._tcp.web.default.svc.cluster.local. A", noerror + soaLine(zoneName)},
		{"protocol alone is an empty non-terminal", "_tcp.web.default.svc.cluster.local. SRV", noerror + soaLine(zoneName)},
		{"protocol without ports", "_udp.web.default.svc.cluster.local. SRV", nxdomain + soaLine(zoneName)},
		{"underscore alone", "_.web.default.svc.cluster.local. SRV", nxdomain + soaLine(zoneName)},
		{"one label too many", "x._http._tcp.web.default.svc.cluster.local. SRV", nxdomain + soaLine(zoneName)},
		{"empty port", `_._tcp.web.default.svc.cluster.local. SRV`, nxdomain + soaLine(zoneName)},
	})
}

func TestReverseRecords(t *testing.T) {
	checkRecords(t, newTestPlugin(t, "mooring cluster.local 10.in-addr.arpa ip6.arpa"), []record{
		{"ClusterIP", "1.0.96.10.in-addr.arpa. PTR", noerror + "\n1.0.96.10.in-addr.arpa. 5 IN PTR web.default.svc.cluster.local."},
		{"endpoint with hostname", "7.1.244.10.in-addr.arpa. PTR", noerror + "\n7.1.244.10.in-addr.arpa. 5 IN PTR db-0.db.prod.svc.cluster.local."},
		{"endpoint of a ClusterIP Service", "5.2.244.10.in-addr.arpa. PTR", noerror + "\n5.2.244.10.in-addr.arpa. 5 IN PTR 10-244-2-5.web.default.svc.cluster.local."},
		{"IPv6", "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.D.F.ip6.arpa. PTR", noerror +
			"\n2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.D.F.ip6.arpa. 5 IN PTR dual.default.svc.cluster.local."},
		{"unready endpoint", "6.2.244.10.in-addr.arpa. PTR", nxdomain + soaLine("10.in-addr.arpa.")},
		{"unknown address", "9.9.9.10.in-addr.arpa. PTR", nxdomain + soaLine("10.in-addr.arpa.")},
		{"another type", "1.0.96.10.in-addr.arpa. A", noerror + soaLine("10.in-addr.arpa.")},
		{"prefix with addresses", "0.96.10.in-addr.arpa. PTR", noerror + soaLine("10.in-addr.arpa.")},
		{"prefix without addresses", "0.97.10.in-addr.arpa. PTR", nxdomain + soaLine("10.in-addr.arpa.")},
		{"not an address", "web.default.svc.10.in-addr.arpa. A", nxdomain + soaLine("10.in-addr.arpa.")},
		{"leading zero", "01.0.96.10.in-addr.arpa. PTR", nxdomain + soaLine("10.in-addr.arpa.")},
		{"too long", "1.1.0.96.10.in-addr.arpa. PTR", nxdomain + soaLine("10.in-addr.arpa.")},
		{"reverse apex", "10.in-addr.arpa. PTR", noerror + soaLine("10.in-addr.arpa.")},
		{"PTR at a Service", "web.default.svc.cluster.local. PTR", noerror + soaLine(zoneName)},
	})
}

func TestPTRObeysTheNamespaces(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local 10.in-addr.arpa {\nnamespaces prod\n}")
	checkRecords(t, m, []record{
		{"exposed", "7.1.244.10.in-addr.arpa. PTR", noerror + "\n7.1.244.10.in-addr.arpa. 5 IN PTR db-0.db.prod.svc.cluster.local."},
		{"not exposed", "1.0.96.10.in-addr.arpa. PTR", nxdomain + soaLine("10.in-addr.arpa.")},
		{"Service not exposed", "web.default.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
	})
	m.Store.Update(changed, func(tx *state.Txn) { tx.DeleteNamespace("prod") })
	checkRecords(t, m, []record{
		{"not selected by namespace_labels", "7.1.244.10.in-addr.arpa. PTR", nxdomain + soaLine("10.in-addr.arpa.")},
	})
}

func TestApex(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local 10.in-addr.arpa")
	m.localAddrs = []netip.Addr{netip.MustParseAddr("10.244.1.2")}
	checkRecords(t, m, []record{
		{"NS", "Cluster.Local. NS", noerror + "\nCluster.Local. 5 IN NS kube-dns.kube-system.svc.Cluster.Local." +
			"\nadditional: kube-dns.kube-system.svc.Cluster.Local. 5 IN A 10.96.0.10"},
		{"NS of a reverse zone", "10.in-addr.arpa. NS", noerror + "\n10.in-addr.arpa. 5 IN NS kube-dns.kube-system.svc.cluster.local." +
			"\nadditional: kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10"},
		{"the SOA record's name", "ns.dns.Cluster.local. A", noerror + "\nns.dns.Cluster.local. 5 IN A 10.96.0.10"},
		{"the name above it", "dns.cluster.local. A", noerror + soaLine(zoneName)},
		{"version", "dns-version.cluster.local. TXT", noerror + "\ndns-version.cluster.local. 28800 IN TXT \"1.1.0\""},
		{"version, other type", "dns-version.cluster.local. A", noerror + soaLine(zoneName)},
		{"below version", "x.dns-version.cluster.local. TXT", nxdomain + soaLine(zoneName)},
		{"SOA below the apex", "none.default.svc.cluster.local. SOA", nxdomain + soaLine(zoneName)},
		{"DS", "cluster.local. DS", noerror + soaLine(zoneName)},
	})
	m.localAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	checkRecords(t, m, []record{
		{"NS outside the cluster", "cluster.local. NS", noerror + "\ncluster.local. 5 IN NS ns.dns.cluster.local." +
			"\nadditional: ns.dns.cluster.local. 5 IN A 192.0.2.53"},
	})
}

func TestPodNames(t *testing.T) {
	one := "\n10-244-1-5.default.pod.cluster.local. 5 IN A 10.244.1.5"
	six := "\nfd00-10-244-1--5.default.pod.cluster.local. 5 IN AAAA fd00:10:244:1::5"
	checkRecords(t, newTestPlugin(t, "mooring cluster.local"), []record{
		{"disabled", "10-244-1-5.default.pod.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"disabled, namespace", "default.pod.cluster.local. A", nxdomain + soaLine(zoneName)},
	})
	checkRecords(t, newTestPlugin(t, "mooring cluster.local {\npods insecure\n}"), []record{
		{"insecure", "10-244-1-5.default.pod.cluster.local. A", noerror + one},
		{"insecure, no such Pod", "1-2-3-4.default.pod.cluster.local. A", noerror + "\n1-2-3-4.default.pod.cluster.local. 5 IN A 1.2.3.4"},
		{"insecure, no such namespace", "1-2-3-4.none.pod.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"insecure, no address", "1-2-3.default.pod.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"insecure, labels in front", "x.y.1-2-3-4.default.pod.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"insecure, other family", "1-2-3-4.default.pod.cluster.local. AAAA", noerror + soaLine(zoneName)},
		{"insecure, namespace", "default.pod.cluster.local. A", noerror + soaLine(zoneName)},
	})
	checkRecords(t, newTestPlugin(t, "mooring cluster.local {\npods verified\n}"), []record{
		{"verified", "10-244-1-5.default.pod.cluster.local. A", noerror + one},
		{"verified, second address", "fd00-10-244-1--5.default.pod.cluster.local. AAAA", noerror + six},
		{"verified, on the node's network", "172-30-0-11.prod.pod.cluster.local. A", noerror + "\n172-30-0-11.prod.pod.cluster.local. 5 IN A 172.30.0.11"},
		{"verified, other namespace", "10-244-1-5.prod.pod.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"verified, no such Pod", "10-244-1-6.default.pod.cluster.local. A", nxdomain + soaLine(zoneName)},
	})
}

func TestZonalNames(t *testing.T) {
	checkRecords(t, newTestPlugin(t, "mooring cluster.local {\nzonal\n}"), []record{
		{"pin", "eu-1.pin._zone.peers.prod.svc.cluster.local. A", noerror + "\neu-1.pin._zone.peers.prod.svc.cluster.local. 5 IN A 10.244.1.8"},
		{"pin, zone of several labels", "Corp.example.com.pin._zone.peers.prod.svc.cluster.local. A", noerror +
			"\nCorp.example.com.pin._zone.peers.prod.svc.cluster.local. 5 IN A 10.244.2.9"},
		{"pin, empty zone", "eu-2.pin._zone.peers.prod.svc.cluster.local. A", noerror + soaLine(zoneName)},
		{"prefer, empty zone", "eu-2.prefer._zone.peers.prod.svc.cluster.local. A", noerror +
			"\neu-2.prefer._zone.peers.prod.svc.cluster.local. 5 IN A 10.244.1.8\neu-2.prefer._zone.peers.prod.svc.cluster.local. 5 IN A 10.244.2.9"},
		{"prefer", "eu-1.prefer._zone.peers.prod.svc.cluster.local. AAAA", noerror +
			"\neu-1.prefer._zone.peers.prod.svc.cluster.local. 5 IN AAAA fd00:10:244:1::8"},
		{"text", "eu-1.pin._zone.peers.prod.svc.cluster.local. TXT", noerror + soaLine(zoneName)},
		{"not headless", "eu-1.pin._zone.web.default.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"unknown directive", "eu-1.near._zone.peers.prod.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"SRV at a name above", "pin._zone.peers.prod.svc.cluster.local. SRV", noerror + soaLine(zoneName)},
		{"names above", "pin._zone.peers.prod.svc.cluster.local. A", noerror + soaLine(zoneName)},
	})
	checkRecords(t, newTestPlugin(t, "mooring cluster.local"), []record{
		{"off", "eu-1.pin._zone.peers.prod.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
	})
}

func TestHeadlessInTwoFamilies(t *testing.T) {
	checkRecords(t, newTestPlugin(t, "mooring cluster.local"), []record{
		{"A", "peers.prod.svc.cluster.local. A", noerror + "\npeers.prod.svc.cluster.local. 5 IN A 10.244.1.8\npeers.prod.svc.cluster.local. 5 IN A 10.244.2.9"},
		{"AAAA", "peers.prod.svc.cluster.local. AAAA", noerror +
			"\npeers.prod.svc.cluster.local. 5 IN AAAA fd00:10:244:1::8\npeers.prod.svc.cluster.local. 5 IN AAAA fd00:10:244:2::"},
		{"IPv6 name ending in a dash gets a zero", "fd00-10-244-2--0.peers.prod.svc.cluster.local. AAAA", noerror +
			"\nfd00-10-244-2--0.peers.prod.svc.cluster.local. 5 IN AAAA fd00:10:244:2::"},
		{"endpoint in the other family", "10-244-1-8.peers.prod.svc.cluster.local. AAAA", noerror + soaLine(zoneName)},
	})
}

func TestEndpointPodNames(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local {\nendpoint_pod_names\n}")
	m.Store.Update(changed, func(tx *state.Txn) {
		pod := endpoint("10.244.2.7")
		pod.About = &model.About{TargetPod: "db-abc"}
		long := endpoint("10.244.2.10")
		long.About = &model.About{TargetPod: "a-name-of-more-than-sixty-three-octets-does-not-fit-into-one-label"}
		tx.PutSlice(slice("prod", "db", named("db-0", endpoint("10.244.1.7")), pod, long))
	})
	checkRecords(t, m, []record{
		{"hostname first", "db-0.db.prod.svc.cluster.local. A", noerror + "\ndb-0.db.prod.svc.cluster.local. 5 IN A 10.244.1.7"},
		{"Pod's name", "db-abc.db.prod.svc.cluster.local. A", noerror + "\ndb-abc.db.prod.svc.cluster.local. 5 IN A 10.244.2.7"},
		{"instead of the address", "10-244-2-7.db.prod.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"Pod's name too long", "10-244-2-10.db.prod.svc.cluster.local. A", noerror + "\n10-244-2-10.db.prod.svc.cluster.local. 5 IN A 10.244.2.10"},
	})
}

func TestIgnoreEmptyService(t *testing.T) {
	checkRecords(t, newTestPlugin(t, "mooring cluster.local {\nignore empty_service\n}"), []record{
		{"no ready endpoint", "idle.default.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
		{"a ready endpoint", "web.default.svc.cluster.local. A", noerror + "\nweb.default.svc.cluster.local. 5 IN A 10.96.0.1"},
		{"ExternalName", "digits.prod.svc.cluster.local. CNAME", noerror + "\ndigits.prod.svc.cluster.local. 5 IN CNAME 192.0.2.1."},
	})
}

// resolver answers for the names outside our zones.
type resolver map[string]*dns.Msg

func (r resolver) Lookup(_ context.Context, _ request.Request, name string, _ uint16) (*dns.Msg, error) {
	if reply, known := r[name]; known {
		return reply, nil
	}
	return nil, errors.New("no upstream")
}

func outside(t *testing.T, rcode int, records ...string) *dns.Msg {
	t.Helper()
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: rcode}}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func TestExternalName(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local")
	m.Upstream = resolver{"www.example.org.": outside(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.80")}
	checkRecords(t, m, []record{
		{"outside", "out.prod.svc.cluster.local. A", noerror +
			"\nout.prod.svc.cluster.local. 5 IN CNAME www.example.org.\nwww.example.org. 60 IN A 192.0.2.80"},
		{"CNAME alone", "out.prod.svc.cluster.local. CNAME", noerror + "\nout.prod.svc.cluster.local. 5 IN CNAME www.example.org."},
		{"in our zone", "in.prod.svc.cluster.local. A", noerror +
			"\nin.prod.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.\nweb.default.svc.cluster.local. 5 IN A 10.96.0.1"},
		{"two in a row", "twice.prod.svc.cluster.local. A", noerror +
			"\ntwice.prod.svc.cluster.local. 5 IN CNAME in.prod.svc.cluster.local." +
			"\nin.prod.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.\nweb.default.svc.cluster.local. 5 IN A 10.96.0.1"},
		{"target without that type", "in.prod.svc.cluster.local. MX", noerror +
			"\nin.prod.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local." + soaLine(zoneName)},
		{"target missing", "lost.prod.svc.cluster.local. A", nxdomain +
			"\nlost.prod.svc.cluster.local. 5 IN CNAME none.default.svc.cluster.local." + soaLine(zoneName)},
		{"upstream fails", "digits.prod.svc.cluster.local. A", "SERVFAIL\ndigits.prod.svc.cluster.local. 5 IN CNAME 192.0.2.1."},
		{"name below it", "x.out.prod.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
	})
	t.Run("outside and missing", func(t *testing.T) {
		m.Upstream = resolver{"www.example.org.": outside(t, dns.RcodeNameError)}
		want := nxdomain + "\nout.prod.svc.cluster.local. 5 IN CNAME www.example.org."
		if diff := cmp.Diff(want, text(ask(t, m, "out.prod.svc.cluster.local. A"))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("circle ends", func(t *testing.T) {
		if reply := ask(t, m, "loop.prod.svc.cluster.local. A"); len(reply.Answer) != maxAliases+1 {
			t.Errorf("%d records, want %d", len(reply.Answer), maxAliases+1)
		}
	})
}

func TestHeadlessLargerThanTheBuffer(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local")
	putBig(m)
	seen := make(map[string]bool)
	for range 10 {
		reply := ask(t, m, "big.prod.svc.cluster.local. A")
		if !reply.Truncated {
			t.Fatal("not marked as truncated")
		}
		packed := reply.Copy()
		packed.Truncate(dns.MinMsgSize)
		if len(packed.Answer) == len(reply.Answer) && packed.Len()+16 <= dns.MinMsgSize {
			t.Errorf("%d records leave room for more", len(reply.Answer))
		}
		for _, rr := range packed.Answer {
			seen[rr.(*dns.A).A.String()] = true
		}
	}
	if len(seen) != 100 {
		t.Errorf("ten replies show %d of 100 endpoints", len(seen))
	}
	q := query(t, "big.prod.svc.cluster.local. A")
	q.SetEdns0(4096, false)
	if reply, _, _ := askMsg(m, q); reply.Truncated || len(reply.Answer) != 100 {
		t.Errorf("a client with room for all gets %d, truncated %v", len(reply.Answer), reply.Truncated)
	}
}
