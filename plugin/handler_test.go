package mooring

import (
	"context"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

const zoneName = "cluster.local."

func TestAddressRecords(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local")
	for name, test := range map[string]struct{ ask, want string }{
		"ClusterIP":                     {"web.default.svc.cluster.local. A", "NOERROR\nweb.default.svc.cluster.local. 5 IN A 10.96.0.1"},
		"owner keeps the client's case": {"wEb.Default.svc.CLUSTER.local. A", "NOERROR\nwEb.Default.svc.CLUSTER.local. 5 IN A 10.96.0.1"},
		"no address of that family":     {"web.default.svc.cluster.local. AAAA", "NOERROR" + soaLine(zoneName)},
		"dual stack v4":                 {"dual.default.svc.cluster.local. A", "NOERROR\ndual.default.svc.cluster.local. 5 IN A 10.96.0.2"},
		"dual stack v6":                 {"dual.default.svc.cluster.local. AAAA", "NOERROR\ndual.default.svc.cluster.local. 5 IN AAAA fd00:10:96::2"},
		"ClusterIP without endpoints":   {"idle.default.svc.cluster.local. A", "NOERROR\nidle.default.svc.cluster.local. 5 IN A 10.96.0.3"},
		"headless gives ready endpoints": {
			"db.prod.svc.cluster.local. A",
			"NOERROR\ndb.prod.svc.cluster.local. 5 IN A 10.244.1.7\ndb.prod.svc.cluster.local. 5 IN A 10.244.2.7",
		},
		"headless, other family":            {"db.prod.svc.cluster.local. AAAA", "NOERROR" + soaLine(zoneName)},
		"headless without ready endpoints":  {"down.prod.svc.cluster.local. A", "NXDOMAIN" + soaLine(zoneName)},
		"endpoint by hostname":              {"db-0.db.prod.svc.cluster.local. A", "NOERROR\ndb-0.db.prod.svc.cluster.local. 5 IN A 10.244.1.7"},
		"endpoint by dashed address":        {"10-244-2-7.db.prod.svc.cluster.local. A", "NOERROR\n10-244-2-7.db.prod.svc.cluster.local. 5 IN A 10.244.2.7"},
		"endpoint that is not ready":        {"db-2.db.prod.svc.cluster.local. A", "NXDOMAIN" + soaLine(zoneName)},
		"unknown Service":                   {"none.default.svc.cluster.local. A", "NXDOMAIN" + soaLine(zoneName)},
		"unknown namespace":                 {"web.none.svc.cluster.local. A", "NXDOMAIN" + soaLine(zoneName)},
		"namespace without Services":        {"empty.svc.cluster.local. A", "NOERROR" + soaLine(zoneName)},
		"svc":                               {"svc.cluster.local. A", "NOERROR" + soaLine(zoneName)},
		"pod, though pods are off":          {"pod.cluster.local. A", "NOERROR" + soaLine(zoneName)},
		"apex":                              {"cluster.local. A", "NOERROR" + soaLine(zoneName)},
		"neither svc nor pod":               {"web.default.foo.cluster.local. A", "NXDOMAIN" + soaLine(zoneName)},
		"authority keeps the client's case": {"none.default.svc.Cluster.Local. A", "NXDOMAIN" + soaLine("Cluster.Local.")},
		"another type":                      {"web.default.svc.cluster.local. MX", "NOERROR" + soaLine(zoneName)},
		"escaped dot is no separator":       {`web\.default.svc.cluster.local. A`, "NXDOMAIN" + soaLine(zoneName)},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, text(ask(t, m, test.ask))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.ask, diff)
			}
		})
	}
}

func TestRootZone(t *testing.T) {
	checkRecords(t, newTestPlugin(t, "mooring ."), []record{
		{"Service", "web.default.svc. A", noerror + "\nweb.default.svc. 5 IN A 10.96.0.1"},
		{"missing", "www.example.org. A", nxdomain + "\nauthority: . 5 IN SOA ns.dns. hostmaster. 1800000000 7200 1800 86400 5"},
		{"address", "1.0.96.10.in-addr.arpa. PTR", noerror + "\n1.0.96.10.in-addr.arpa. 5 IN PTR web.default.svc."},
		{"apex", ". SOA", noerror + "\n. 5 IN SOA ns.dns. hostmaster. 1800000000 7200 1800 86400 5"},
	})
}

func TestSOAOfTheApex(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local { ttl 600 \n}")
	want := "NOERROR\ncluster.local. 300 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1800000000 7200 1800 86400 600"
	if diff := cmp.Diff(want, text(ask(t, m, "cluster.local. SOA"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSerialFollowsEveryChange has the changes that the stock plugin's serial misses (D14).
func TestSerialFollowsEveryChange(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local {\nendpoint_pod_names\n}")
	last := serial(changed)
	for i, step := range []struct {
		situation string
		change    func(*state.Txn)
		follows   bool
	}{
		{"nothing", func(*state.Txn) {}, false},
		{"a second ClusterIP", func(tx *state.Txn) {
			tx.PutService(&model.Service{Key: key("default", "web"), ClusterIPs: addrs("10.96.0.1", "fd00:10:96::1")})
		}, true},
		{"another Pod behind the same address", func(tx *state.Txn) {
			s := slice("prod", "db", endpoint("10.244.1.7"))
			s.Endpoints[0].About = &model.About{TargetPod: "db-1"}
			tx.PutSlice(s)
		}, true},
		{"a namespace that goes", func(tx *state.Txn) { tx.DeleteNamespace("empty") }, true},
	} {
		m.Store.Update(changed.Add(time.Duration(i)*time.Second), step.change)
		now := ask(t, m, "cluster.local. SOA").Answer[0].(*dns.SOA).Serial
		if now > last != step.follows {
			t.Errorf("%s: serial %d after %d", step.situation, now, last)
		}
		last = now
	}
}

func TestBeforeSync(t *testing.T) {
	m, err := Parse(caddy.NewTestController("dns", "mooring cluster.local in-addr.arpa {\nfallthrough\n}"))
	if err != nil {
		t.Fatal(err)
	}
	m.Next = next("next plugin must not be asked")
	m.Store.Update(changed, func(tx *state.Txn) {
		tx.PutNamespace(&model.Namespace{Name: "default"})
		tx.PutService(&model.Service{Key: key("default", "web"), ClusterIPs: addrs("10.96.0.1")})
		tx.PutService(&model.Service{Key: key("default", "db"), Headless: true})
	})
	if m.Ready() {
		t.Error("ready before the sync")
	}
	for question, want := range map[string]string{
		"web.default.svc.cluster.local. A":    "NOERROR\nweb.default.svc.cluster.local. 5 IN A 10.96.0.1",
		"web.default.svc.cluster.local. AAAA": "NOERROR" + soaLine(zoneName),
		"none.default.svc.cluster.local. A":   "SERVFAIL" + soaLine(zoneName),
		"db.default.svc.cluster.local. A":     "SERVFAIL" + soaLine(zoneName),
		"svc.cluster.local. A":                "NOERROR" + soaLine(zoneName),
	} {
		if diff := cmp.Diff(want, text(ask(t, m, question))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", question, diff)
		}
	}
	m.Store.Update(time.Now(), (*state.Txn).SetSynced)
	if !m.Ready() {
		t.Error("not ready after the sync")
	}
}

func TestFallthrough(t *testing.T) {
	for name, test := range map[string]struct {
		stanza, ask string
		passed      bool
	}{
		"off":                        {"mooring cluster.local", "none.default.svc.cluster.local. A", false},
		"everything":                 {"mooring cluster.local {\nfallthrough\n}", "none.default.svc.cluster.local. A", true},
		"listed zone":                {"mooring cluster.local {\nfallthrough default.svc.cluster.local\n}", "none.Default.svc.cluster.local. A", true},
		"zone that is not listed":    {"mooring cluster.local {\nfallthrough in-addr.arpa\n}", "none.default.svc.cluster.local. A", false},
		"no data does not":           {"mooring cluster.local {\nfallthrough\n}", "web.default.svc.cluster.local. MX", false},
		"not our zone":               {"mooring cluster.local", "example.org. A", true},
		"suffix but no zone of ours": {"mooring cluster.local", "web.default.svc.xcluster.local. A", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTestPlugin(t, test.stanza)
			m.Next = next("passed on")
			_, _, err := askMsg(m, query(t, test.ask))
			if passed := err != nil; passed != test.passed {
				t.Errorf("passed on: %v, want %v", passed, test.passed)
			}
		})
	}
}

// next is a plugin that fails with a message.
func next(message string) plugin.Handler {
	return plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
		return dns.RcodeServerFailure, nextAsked(message)
	})
}

type nextAsked string

func (e nextAsked) Error() string { return string(e) }
