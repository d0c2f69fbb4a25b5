package mooring

import (
	"testing"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
)

func TestExtendedErrors(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local 10.in-addr.arpa {\nnamespaces default prod gone\nzonal\n}")
	for _, test := range []struct {
		situation, ask string
		code           uint16
		text           string
	}{
		{"no such Service", "none.default.svc.cluster.local. A", dns.ExtendedErrorCodeOther, "there is no Service none in namespace default"},
		{"no such namespace", "web.gone.svc.cluster.local. A", dns.ExtendedErrorCodeOther, "there is no namespace gone"},
		{"not exposed", "kube-dns.kube-system.svc.cluster.local. A", dns.ExtendedErrorCodeBlocked, "namespace kube-system is not exposed"},
		{"none ready", "down.prod.svc.cluster.local. A", dns.ExtendedErrorCodeOther, "Service down exists, 0 of 1 endpoints ready"},
		{"endpoint not ready", "db-2.db.prod.svc.cluster.local. A", dns.ExtendedErrorCodeOther, "Service db exists, but has no ready endpoint db-2"},
		{"no such port", "_dns._udp.web.default.svc.cluster.local. SRV", dns.ExtendedErrorCodeOther, "Service web exists, but has no port of this name and protocol"},
		{"other type", "web.default.svc.cluster.local. AAAA", dns.ExtendedErrorCodeOther, "the name exists, but has no record of this type"},
		{"Pods off", "1-2-3-4.default.pod.cluster.local. A", dns.ExtendedErrorCodeOther, "names of Pods are turned off"},
		{"address", "9.9.9.10.in-addr.arpa. PTR", dns.ExtendedErrorCodeOther, "no Service and no ready endpoint has this address"},
		{"zonal", "a.pin._zone.web.default.svc.cluster.local. A", dns.ExtendedErrorCodeOther, "Service web is not headless, so it has no names by zone"},
		{"no name of ours", "www.cluster.local. A", dns.ExtendedErrorCodeOther, "no name of a Service, Pod or address"},
	} {
		t.Run(test.situation, func(t *testing.T) {
			got := extendedError(t, m, test.ask)
			if got == nil || got.InfoCode != test.code || got.ExtraText != test.text {
				t.Errorf("got %v, want %d %q", got, test.code, test.text)
			}
		})
	}
}

// extendedError gives the one extended error of a reply, nil if it has none.
func extendedError(t *testing.T, m *Mooring, question string) *dns.EDNS0_EDE {
	t.Helper()
	all := extendedErrors(t, m, question)
	if len(all) != 1 {
		return nil
	}
	return all[0]
}

// extendedErrors asks with EDNS and gives the extended errors of the reply.
func extendedErrors(t *testing.T, m *Mooring, question string) (all []*dns.EDNS0_EDE) {
	t.Helper()
	q := query(t, question)
	q.SetEdns0(1232, false)
	reply, _, err := askMsg(m, q)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reply.Pack(); err != nil {
		t.Fatal(err)
	}
	if opt := reply.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			all = append(all, option.(*dns.EDNS0_EDE))
		}
	}
	return all
}

func TestExtendedErrorBeforeSync(t *testing.T) {
	m, err := Parse(caddy.NewTestController("dns", "mooring cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	got := extendedError(t, m, "web.default.svc.cluster.local. A")
	if got == nil || got.InfoCode != dns.ExtendedErrorCodeNotReady || got.ExtraText != "not synced for 0s" {
		t.Errorf("got %v", got)
	}
}

func TestNoExtendedErrorWithoutEDNS(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local")
	if reply := ask(t, m, "none.default.svc.cluster.local. A"); reply.IsEdns0() != nil {
		t.Errorf("an OPT record for a client that sent none:\n%s", reply)
	}
}

func TestNegativeTTL(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local {\nttl 30\nnegative_ttl 2\n}")
	checkRecords(t, m, []record{
		{"negative", "none.default.svc.cluster.local. A", nxdomain +
			"\nauthority: cluster.local. 2 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1800000000 7200 1800 86400 2"},
		{"positive", "web.default.svc.cluster.local. A", noerror + "\nweb.default.svc.cluster.local. 30 IN A 10.96.0.1"},
	})
}
