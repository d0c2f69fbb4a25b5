package mooring

import (
	"testing"

	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

const setZone = "clusterset.local."

// newClusterSet adds to the fixture the Services of a cluster set of two clusters.
func newClusterSet(t *testing.T, properties string) *Mooring {
	t.Helper()
	m := newTestPlugin(t, "mooring cluster.local clusterset.local {\nmulticluster clusterset.local\n"+properties+"\n}")
	m.Imports.Update(changed, func(tx *state.Txn) {
		tx.PutNamespace(&model.Namespace{Name: "prod"})
		http := []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}}
		tx.PutService(&model.Service{Key: key("prod", "shop"), ClusterIPs: addrs("10.112.0.1"), Ports: http})
		tx.PutService(&model.Service{Key: key("prod", "db"), Headless: true, Ports: http})
		for cluster, addr := range map[string]string{"east": "10.1.0.1", "west": "10.2.0.1"} {
			s := slice("prod", "db", named("db-0", endpoint(addr)))
			s.Name, s.Cluster = "db-"+cluster, cluster
			tx.PutSlice(s)
		}
		tx.SetSynced()
	})
	return m
}

func TestMulticluster(t *testing.T) {
	checkRecords(t, newClusterSet(t, ""), []record{
		{"cluster set IP", "shop.prod.svc.clusterset.local. A", noerror + "\nshop.prod.svc.clusterset.local. 5 IN A 10.112.0.1"},
		{"headless, all clusters", "db.prod.svc.clusterset.local. A", noerror +
			"\ndb.prod.svc.clusterset.local. 5 IN A 10.1.0.1\ndb.prod.svc.clusterset.local. 5 IN A 10.2.0.1"},
		{"this cluster's own", "db.prod.svc.cluster.local. A", noerror +
			"\ndb.prod.svc.cluster.local. 5 IN A 10.244.1.7\ndb.prod.svc.cluster.local. 5 IN A 10.244.2.7"},
		{"endpoint of a cluster", "db-0.east.db.prod.svc.clusterset.local. A", noerror + "\ndb-0.east.db.prod.svc.clusterset.local. 5 IN A 10.1.0.1"},
		{"cluster is an empty non-terminal", "east.db.prod.svc.clusterset.local. A", noerror + soaLine(setZone)},
		{"unknown cluster", "db-0.north.db.prod.svc.clusterset.local. A", nxdomain + soaLine(setZone)},
		{"SRV", "_http._tcp.db.prod.svc.clusterset.local. SRV", noerror +
			"\n_http._tcp.db.prod.svc.clusterset.local. 5 IN SRV 0 50 8080 db-0.east.db.prod.svc.clusterset.local." +
			"\n_http._tcp.db.prod.svc.clusterset.local. 5 IN SRV 0 50 8080 db-0.west.db.prod.svc.clusterset.local." +
			"\nadditional: db-0.east.db.prod.svc.clusterset.local. 5 IN A 10.1.0.1" +
			"\nadditional: db-0.west.db.prod.svc.clusterset.local. 5 IN A 10.2.0.1"},
		{"not imported", "web.prod.svc.clusterset.local. A", nxdomain + soaLine(setZone)},
		{"imported only", "shop.prod.svc.cluster.local. A", nxdomain + soaLine(zoneName)},
	})
	checkRecords(t, newClusterSet(t, "compat stock"), []record{
		{"compat: cluster", "east.db.prod.svc.clusterset.local. A", nxdomain + soaLine(setZone)},
	})
}

func TestMulticlusterIsReadyWithBothSources(t *testing.T) {
	m, err := Parse(caddy.NewTestController("dns", "mooring cluster.local clusterset.local {\nmulticluster clusterset.local\n}"))
	if err != nil {
		t.Fatal(err)
	}
	m.Store.Update(changed, (*state.Txn).SetSynced)
	if m.Ready() {
		t.Error("ready without the imports")
	}
	if got := text(ask(t, m, "x.prod.svc.clusterset.local. A")); got != "SERVFAIL"+soaOf(setZone, "0") {
		t.Errorf("before the imports are listed: %s", got)
	}
	m.Imports.Update(changed, (*state.Txn).SetSynced)
	if !m.Ready() {
		t.Error("not ready with both")
	}
}

func TestMulticlusterTransferNamesWhatCanBeAsked(t *testing.T) {
	m := newClusterSet(t, "")
	records, err := m.Transfer(setZone, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for set := range records {
		for _, rr := range set {
			got = append(got, rr.Header().Name)
		}
	}
	want := []string{
		setZone, "_http._tcp.db.prod.svc." + setZone, "_http._tcp.db.prod.svc." + setZone, "_http._tcp.shop.prod.svc." + setZone,
		"db-0.east.db.prod.svc." + setZone, "db-0.east.db.prod.svc." + setZone,
		"db-0.west.db.prod.svc." + setZone, "db-0.west.db.prod.svc." + setZone,
		"db.prod.svc." + setZone, "db.prod.svc." + setZone, "db.prod.svc." + setZone, "db.prod.svc." + setZone,
		"dns-version." + setZone, "shop.prod.svc." + setZone, "shop.prod.svc." + setZone, setZone,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
}
