package metrics

import (
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/drain"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

// fixture is one set of metrics with sources that a test can change.
type fixture struct {
	*Metrics
	store  *state.Store
	status reconcile.Status
	kinds  []watch.KindStatus
	drains reconcile.Drains
}

func newFixture() *fixture {
	f := &fixture{store: state.NewStore()}
	f.Metrics = New(Sources{
		Store: f.store, Status: func() reconcile.Status { return f.status },
		Freshness: func() []watch.KindStatus { return f.kinds }, Drains: func() reconcile.Drains { return f.drains },
		Failures:  func() map[string]uint64 { return map[string]uint64{"no answer": 4} },
		Conntrack: func() (Conntrack, bool) { return Conntrack{Entries: 5, Limit: 6, Dropped: 7}, true },
		Node:      "node-1", Families: []string{ipv4, ipv6},
	})
	return f
}

// scrape gives the lines of one metric, without comments.
func (f *fixture) scrape(t *testing.T, name string) []string {
	t.Helper()
	recorder := httptest.NewRecorder()
	f.Handler(About{}).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if recorder.Code != http.StatusOK {
		t.Fatalf("/metrics: %d %s", recorder.Code, recorder.Body)
	}
	var lines []string
	for line := range strings.Lines(recorder.Body.String()) {
		if strings.HasPrefix(line, name+" ") || strings.HasPrefix(line, name+"{") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func (f *fixture) want(t *testing.T, when, name string, want ...string) {
	t.Helper()
	for i := range want {
		want[i] = name + want[i]
	}
	if diff := cmp.Diff(want, f.scrape(t, name)); diff != "" {
		t.Errorf("%s: %s (-want +got):\n%s", when, name, diff)
	}
}

func service(name string) *model.Service {
	return &model.Service{
		Key: model.ServiceKey{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Ports: []model.ServicePort{{Protocol: model.TCP, Port: 80}},
	}
}

func slice(name, address, node string, trigger time.Time) *model.EndpointSlice {
	return &model.EndpointSlice{
		Name: name, Service: model.ServiceKey{Namespace: "default", Name: "web"}, TriggerTime: trigger,
		Ports:     []model.EndpointPort{{Protocol: model.TCP, Port: 8080}},
		Endpoints: []model.Endpoint{{Addr: netip.MustParseAddr(address), Ready: true, Serving: true, About: &model.About{Node: node}}},
	}
}

func TestChangesArePendingUntilTheyAreApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slices, services = "kubeproxy_sync_proxy_rules_endpoint_changes_", "kubeproxy_sync_proxy_rules_service_changes_"
		f := newFixture()
		began := time.Now()
		time.Sleep(2 * time.Second)
		first := f.store.Update(time.Now(), func(tx *state.Txn) {
			tx.PutService(service("web"))
			tx.PutSlice(slice("a", "10.244.1.2", "node-1", began.Add(-time.Hour)))
			tx.PutSlice(slice("b", "fd00::2", "node-1", began.Add(time.Second)))
			tx.SetSynced()
		})
		f.want(t, "before", services+"pending", " 1")
		f.want(t, "before", slices+"pending", " 2")

		now := time.Now()
		f.Observe(reconcile.Round{After: first, Began: now, Ended: now, Err: errors.New("refused")})
		f.want(t, "refused", services+"pending", " 1")
		f.want(t, "refused", services+"total", " 1")
		f.want(t, "refused", slices+"total", " 2")
		f.want(t, "refused", "mooring_apply_errors_total", " 1")
		f.want(t, "refused", "kubeproxy_network_programming_duration_seconds_count")

		time.Sleep(time.Second)
		f.Observe(reconcile.Round{Before: first, After: first, Began: now, Ended: time.Now(), Complete: true})
		f.want(t, "applied", services+"pending", " 0")
		f.want(t, "applied", slices+"total", " 2")
		f.want(t, "applied", "kubeproxy_network_programming_duration_seconds_sum", `{ip_family="IPv6"} 2`)
		f.want(t, "applied", "kubeproxy_sync_proxy_rules_duration_seconds_sum", `{ip_family="IPv4"} 1`, `{ip_family="IPv6"} 1`)
		f.want(t, "applied", "kubeproxy_sync_partial_proxy_rules_duration_seconds_count", `{ip_family="IPv4"} 1`, `{ip_family="IPv6"} 1`)

		f.store.Update(time.Now(), func(tx *state.Txn) {
			tx.DeleteSlice("default", "a")
			tx.DeleteService(model.ServiceKey{Namespace: "default", Name: "web"})
		})
		f.want(t, "deleted", services+"pending", " 1")
		f.want(t, "deleted", slices+"pending", " 2")
	})
}

func TestNoLocalEndpoints(t *testing.T) {
	const name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
	tests := []struct {
		name               string
		node               string
		inside, outside    model.TrafficPolicy
		internal, external string
	}{
		{"no policy", "node-2", model.Cluster, model.Cluster, "0", "0"},
		{"an endpoint here", "node-1", model.Local, model.Local, "0", "0"},
		{"one elsewhere, inside", "node-2", model.Local, model.Cluster, "1", "0"},
		{"one elsewhere, outside", "node-2", model.Cluster, model.Local, "0", "1"},
		{"none at all is refused, not dropped", "", model.Local, model.Local, "0", "0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture()
			f.store.Update(time.Now(), func(tx *state.Txn) {
				s := service("web")
				s.InternalTrafficPolicy, s.ExternalTrafficPolicy = test.inside, test.outside
				tx.PutService(s)
				if test.node != "" {
					tx.PutSlice(slice("a", "10.244.1.2", test.node, time.Time{}))
				}
			})
			f.want(t, "scrape", name,
				`{ip_family="IPv4",traffic_policy="external"} `+test.external, `{ip_family="IPv4",traffic_policy="internal"} `+test.internal,
				`{ip_family="IPv6",traffic_policy="external"} 0`, `{ip_family="IPv6",traffic_policy="internal"} 0`)
		})
	}
}

func TestOwnMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.status = reconcile.Status{Objects: map[plan.Kind]int{plan.VirtualServer: 3, plan.Divert: 0}, Draining: 2}
		f.kinds = []watch.KindStatus{{Kind: "services", Listed: time.Now(), Contact: time.Now()}, {Kind: "nodes", Err: errors.New("forbidden")}}
		time.Sleep(5 * time.Second)
		f.want(t, "scrape", "mooring_objects", `{kind="divert"} 0`, `{kind="virtual-server"} 3`)
		f.want(t, "scrape", "mooring_draining_endpoints", " 2")
		f.want(t, "scrape", "mooring_source_contact_age_seconds", `{kind="services"} 5`)
		f.want(t, "scrape", "mooring_source_failing", `{kind="nodes"} 1`, `{kind="services"} 0`)
		f.want(t, "scrape", "mooring_dataplane_failures", `{kind="no answer"} 4`)
		f.want(t, "scrape", "mooring_conntrack_entries", " 5")
		f.want(t, "scrape", "mooring_conntrack_limit", " 6")
		f.want(t, "scrape", "mooring_conntrack_dropped", " 7")
		f.Probe("/healthz", 503)
		f.Probe("/livez", 200)
		f.want(t, "scrape", "kubeproxy_proxy_healthz_total", `{code="503"} 1`)
		f.want(t, "scrape", "kubeproxy_proxy_livez_total", `{code="200"} 1`)
	})
}

func TestDrains(t *testing.T) {
	server := plan.Key{Kind: plan.RealServer, Protocol: model.TCP, Addr: netip.MustParseAddr("10.96.0.10"), Port: 80, Endpoint: netip.MustParseAddrPort("10.244.1.2:8080")}
	entry := reconcile.Leaving{Service: service("web").Key}
	entry.Key, entry.Leaving = server, drain.Leaving{Since: time.Unix(1000, 0), Deadline: time.Unix(1900, 0), Connections: 3}
	f := newFixture()
	f.drains = reconcile.Drains{Leaving: []reconcile.Leaving{entry}, Unsaved: 2}
	const labels = `{endpoint="10.244.1.2:8080",service="default/web",virtual_server="tcp 10.96.0.10:80"} `
	f.want(t, "leaving", "mooring_drain_connections", labels+"3")
	f.want(t, "leaving", "mooring_drain_since_timestamp_seconds", labels+"1000")
	f.want(t, "leaving", "mooring_drain_deadline_timestamp_seconds", labels+"1900")
	f.want(t, "leaving", "mooring_drain_ledger_write_failures", " 2")
	f.want(t, "leaving", "mooring_drained_endpoints_total", `{outcome="clean"} 0`, `{outcome="cut"} 0`)
	f.drains = reconcile.Drains{}
	f.Observe(reconcile.Round{After: f.store.Load(), Left: []drain.Finished{{Key: server, Cut: 3}, {Key: server}}})
	f.want(t, "left", "mooring_drain_connections")
	f.want(t, "left", "mooring_drained_endpoints_total", `{outcome="clean"} 1`, `{outcome="cut"} 1`)
	f.want(t, "left", "mooring_drain_cut_connections_total", " 3")
}

func TestHandler(t *testing.T) {
	tests := []struct {
		path      string
		profiling bool
		code      int
		body      string
	}{
		{"/proxyMode", false, 200, "ipvs"},
		{"/healthz", false, 200, "ok"},
		{"/configz", false, 200, `{"a":1}`},
		{"/drains", false, 200, `{}`},
		{"/metrics", false, 200, "go_goroutines"},
		{"/metrics/slis", false, 200, ""},
		{"/flagz", false, 200, "mooring-proxy flagz"},
		{"/flagz", false, 200, "\nv=4\n"},
		{"/statusz", false, 200, "Binary version: v1.2\nPaths: /configz /drains /flagz /healthz /metrics /proxyMode\n"},
		{"/statusz", true, 200, "Paths: /configz /debug /drains /flagz "},
		{"/debug/pprof/", false, 404, ""},
		{"/debug/pprof/", true, 200, "goroutine"},
		{"/", false, 404, ""},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			handler := newFixture().Handler(About{Version: "v1.2", Configz: []byte(`{"a":1}`), Flags: map[string]string{"a": "b", "v": "4"}, Profiling: test.profiling, Drains: text("application/json", "{}")})
			handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, test.path, nil))
			if recorder.Code != test.code || !strings.Contains(recorder.Body.String(), test.body) {
				t.Errorf("%d %s, want %d with %q", recorder.Code, recorder.Body, test.code, test.body)
			}
		})
	}
}

func TestPagesAsObjects(t *testing.T) {
	handler := newFixture().Handler(About{Version: "v1.2", Flags: map[string]string{"v": "4"}})
	tests := []struct {
		name, path, accept string
		code               int
		body               string
	}{
		{"the flags", "/flagz", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz", 200, `"apiVersion":"config.k8s.io/v1beta1","metadata":{"name":"mooring-proxy"},"flags":{"v":"4"}`},
		{"the status, or text", "/statusz", "application/json;v=v1alpha1;g=config.k8s.io;as=Statusz, text/plain;q=0.5", 200, `"binaryVersion":"v1.2"`},
		{"anything", "/statusz", "*/*", 200, "mooring-proxy statusz"},
		{"a version there is not", "/flagz", "application/json;v=v9;g=config.k8s.io;as=Flagz", 406, "v1beta1"},
		{"another page's object", "/statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz", 406, "as=Statusz"},
		{"JSON of no kind", "/flagz", "application/json", 406, "v1beta1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodGet, test.path, nil)
			request.Header.Set("Accept", test.accept)
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			if recorder.Code != test.code || !strings.Contains(recorder.Body.String(), test.body) {
				t.Errorf("%d %s, want %d with %q", recorder.Code, recorder.Body, test.code, test.body)
			}
		})
	}
}

func TestSLIsCountHealthChecks(t *testing.T) {
	handler := newFixture().Handler(About{})
	ask := func(method, path string) string {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(method, path, nil))
		return recorder.Body.String()
	}
	for range 2 {
		ask(http.MethodGet, "/healthz")
	}
	if got := ask(http.MethodGet, "/metrics/slis"); !strings.Contains(got, `kubernetes_healthcheck{name="ping",type="healthz"} 1`) ||
		!strings.Contains(got, `kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 2`) {
		t.Errorf("after two health checks:\n%s", got)
	}
	ask(http.MethodDelete, "/metrics/slis")
	if got := ask(http.MethodGet, "/metrics/slis"); got != "" {
		t.Errorf("after a reset:\n%s", got)
	}
}

// kubeProxyGauge is a name that Kubernetes gave; a gauge should not end in _total.
const kubeProxyGauge = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"

func TestNamesFollowTheCustoms(t *testing.T) {
	var text strings.Builder
	for _, e := range newFixture().catalog.entries {
		if e.name != kubeProxyGauge {
			text.WriteString("# HELP " + e.name + " " + e.help + "\n# TYPE " + e.name + " " + e.kind + "\n" + sample(e))
		}
	}
	problems, err := promlint.New(strings.NewReader(text.String())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// sample gives one sample, without which a linter sees nothing.
func sample(e entry) string {
	if e.kind == "histogram" {
		return e.name + "_bucket{le=\"+Inf\"} 0\n" + e.name + "_sum 0\n" + e.name + "_count 0\n"
	}
	return e.name + " 0\n"
}

func TestDocumentation(t *testing.T) {
	const path, mark = "../../docs/metrics.md", "<!-- table: generated -->\n"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(content), mark)
	if !found {
		t.Fatalf("%s has no line %q", path, mark)
	}
	want := head + mark + newFixture().Document()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Errorf("%s is out of date, run `go test ./proxy/metrics -update` (-want +got):\n%s", path, diff)
	}
}

func TestEveryNameOfKubeProxyIsThere(t *testing.T) {
	// Those that all its modes register (pkg/proxy/metrics, RegisterMetrics). Of its IPVS
	// mode's own, iptables and a conntrack reconciler are nothing that we have.
	wanted := strings.FieldsSeq(`sync_proxy_rules_duration_seconds sync_proxy_rules_last_queued_timestamp_seconds
		sync_proxy_rules_last_timestamp_seconds sync_proxy_rules_endpoint_changes_pending
		sync_proxy_rules_endpoint_changes_total sync_proxy_rules_service_changes_pending
		sync_proxy_rules_service_changes_total proxy_healthz_total proxy_livez_total
		network_programming_duration_seconds sync_proxy_rules_no_local_endpoints_total`)
	for name := range wanted {
		if !slices.ContainsFunc(newFixture().catalog.entries, func(e entry) bool { return e.name == "kubeproxy_"+name }) {
			t.Errorf("kubeproxy_%s is missing", name)
		}
	}
}
