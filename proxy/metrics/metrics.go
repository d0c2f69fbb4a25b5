// Package metrics measures mooring-proxy: under kube-proxy's names what kube-proxy measures
// (pkg/proxy/metrics), so that dashboards and alerts go on working, and under mooring_ what only
// Mooring knows. It also is the server of kube-proxy's port 10249.
package metrics

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/mooring-project/mooring/internal/snapshotfile"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// Sources are what is read at the time of a scrape.
type Sources struct {
	Store     *state.Store
	Status    func() reconcile.Status
	Freshness func() []watch.KindStatus
	// Failures counts what went wrong with the kernel, by kind.
	Failures func() map[string]uint64
	// Conntrack tells how full the kernel's table of connections is; nil if that is not known.
	Conntrack func() (Conntrack, bool)
	// Drains tells which endpoints are leaving.
	Drains func() reconcile.Drains
	// Disk tells how the snapshot on disk does; nil if there is none.
	Disk func() snapshotfile.Status
	// Endpoints calls visit with each endpoint of the kernel; nil if they are not to be measured.
	Endpoints func(visit func(Endpoint))
	// Held counts the addresses that are held after a takeover from kube-proxy; nil if there is none.
	Held func() int
	// Node is this node's name.
	Node string
	// Families are the values of the label ip_family: IPv4, IPv6 or both. A round of our
	// loop serves all of them, so it counts for each.
	Families []string
}

// Metrics is one set of metrics with its registry. Its methods are safe for concurrent use.
type Metrics struct {
	sources Sources
	catalog catalog
	started time.Time

	syncDuration, syncFull, syncPartial, programming             *prometheus.HistogramVec
	lastSync, lastQueued, noLocalEndpoints                       *prometheus.GaugeVec
	endpointsPending, servicesPending                            *prometheus.GaugeVec
	endpointsTotal, servicesTotal, healthz, livez                *prometheus.CounterVec
	objects, draining, contactAge, failing, objectsRead, repairs *prometheus.GaugeVec
	dataplaneRepairs                                             *prometheus.GaugeVec
	drainConnections, drainSince, drainDeadline, drainUnsaved    *prometheus.GaugeVec
	failures, conntrackEntries, conntrackLimit, conntrackDropped *prometheus.GaugeVec
	held                                                         *prometheus.GaugeVec
	restoredAge, diskAge, diskBytes, diskFailures                *prometheus.GaugeVec
	operations, applyErrors, drained, drainCut                   *prometheus.CounterVec

	// mu guards what follows.
	mu sync.Mutex
	// counted is the newest snapshot whose changes have been counted, complete the
	// newest one that has been applied.
	counted, complete *state.Snapshot
	// triggered are the changes of endpoints that wait to be applied.
	triggered []trigger
}

// trigger is when the change of an EndpointSlice began.
type trigger struct {
	family string
	at     time.Time
}

// New gives metrics in a registry of their own.
func New(sources Sources) *Metrics {
	empty := state.NewStore().Load()
	m := &Metrics{
		sources: sources, catalog: catalog{registry: prometheus.NewRegistry()}, started: time.Now(),
		counted: empty, complete: empty,
	}
	m.catalog.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.defineShared()
	m.defineOwn()
	m.defineEndpoints()
	return m
}

// defineShared defines what kube-proxy has too, with its names, labels and buckets.
func (m *Metrics) defineShared() {
	c, sync := &m.catalog, prometheus.ExponentialBuckets(0.001, 2, 15)
	m.syncDuration = c.histogram("kubeproxy_sync_proxy_rules_duration_seconds", "Duration of one round that changed the data plane.", sync, "ip_family")
	m.syncFull = c.histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "Duration of a round that planned every Service.", sync, "ip_family")
	m.syncPartial = c.histogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", "Duration of a round that planned changed Services alone.", sync, "ip_family")
	m.programming = c.histogram("kubeproxy_network_programming_duration_seconds",
		"Time from the change of a pod or Service (annotation endpoints.kubernetes.io/last-change-trigger-time) until the data plane had it; depends on clocks of two machines.",
		programmingBuckets(), "ip_family")
	m.lastSync = c.gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the data plane last became equal to the plan, as Unix time.", "ip_family")
	m.lastQueued = c.gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When something last changed that may have to be applied, as Unix time.", "ip_family")
	m.endpointsPending = c.gauge("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "EndpointSlices that changed and are not applied yet.")
	m.endpointsTotal = c.counter("kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices seen; several between two rounds count as one.")
	m.servicesPending = c.gauge("kubeproxy_sync_proxy_rules_service_changes_pending", "Services that changed and are not applied yet.")
	m.servicesTotal = c.counter("kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services seen; several between two rounds count as one.")
	m.noLocalEndpoints = c.gauge("kubeproxy_sync_proxy_rules_no_local_endpoints_total",
		"Service ports with traffic policy Local that have endpoints, but none on this node.", "traffic_policy", "ip_family")
	m.healthz = c.counter("kubeproxy_proxy_healthz_total", "Answers of /healthz by HTTP status.", "code")
	m.livez = c.counter("kubeproxy_proxy_livez_total", "Answers of /livez by HTTP status.", "code")
	m.endpointsTotal.WithLabelValues()
	m.servicesTotal.WithLabelValues()
}

func (m *Metrics) defineOwn() {
	c := &m.catalog
	m.objects = c.gauge("mooring_objects", "Objects in the data plane.", "kind")
	m.draining = c.gauge("mooring_draining_endpoints", "Endpoints that take no new connections and still have old ones.")
	leaving := []string{"service", "virtual_server", "endpoint"}
	m.drainConnections = c.gauge("mooring_drain_connections", "Connections that an endpoint still has which is leaving; of the 500 with the first deadlines.", leaving...)
	m.drainSince = c.gauge("mooring_drain_since_timestamp_seconds", "When it began to leave, as Unix time.", leaving...)
	m.drainDeadline = c.gauge("mooring_drain_deadline_timestamp_seconds", "When its connections are cut if it still has some, as Unix time.", leaving...)
	m.drainUnsaved = c.gauge("mooring_drain_ledger_write_failures", "Times that the leaving endpoints could not be noted on disk, since the start.")
	m.drained = c.counter("mooring_drained_endpoints_total", "Endpoints that have left: clean, or cut if connections were still open at the deadline.", "outcome")
	m.drainCut = c.counter("mooring_drain_cut_connections_total", "Connections that were still open when their endpoint's deadline passed.")
	m.dataplaneRepairs = c.gauge("mooring_dataplane_repairs", "Objects of the data plane that somebody else had changed or removed and that were put right, since the start.")
	m.failures = c.gauge("mooring_dataplane_failures", "Exchanges with the kernel that went wrong, since the start; what they were about is tried again.", "kind")
	m.conntrackEntries = c.gauge("mooring_conntrack_entries", "Connections that the kernel tracks.")
	m.conntrackLimit = c.gauge("mooring_conntrack_limit", "Connections that the kernel can track; packets of further ones are dropped.")
	m.conntrackDropped = c.gauge("mooring_conntrack_dropped", "Packets that the kernel has dropped because the table was full, since the machine's start.")
	m.operations = c.counter("mooring_operations_total", "Operations done on objects of the data plane.", "kind", "verb")
	m.applyErrors = c.counter("mooring_apply_errors_total", "Rounds in which something could not be applied; it is tried again.")
	m.contactAge = c.gauge("mooring_source_contact_age_seconds", "Time since the source of a kind of object was last heard of; an API server that is well is heard of every minute or two.", "kind")
	m.failing = c.gauge("mooring_source_failing", "1 if a kind of object cannot be read at present, 0 if it can.", "kind")
	m.objectsRead = c.gauge("mooring_source_listed", "1 once everything of a kind has been read, 0 before.", "kind")
	m.repairs = c.gauge("mooring_source_audit_repairs", "Objects of a kind whose changes the watch had missed and the audit has found, since the start.", "kind")
	m.held = c.gauge("mooring_kube_proxy_held_addresses", "Addresses of Services that are held because connections of this host from before the takeover from kube-proxy have them as their source.")
	m.restoredAge = c.gauge("mooring_restored_age_seconds", "Age of the snapshot from disk that is served; 0 once the API server has been reached.")
	m.diskAge = c.gauge("mooring_disk_snapshot_age_seconds", "Time since what the snapshot on disk holds was last known to be current.")
	m.diskBytes = c.gauge("mooring_disk_snapshot_bytes", "Size of the snapshot on disk.")
	m.diskFailures = c.gauge("mooring_disk_snapshot_write_failures", "Writes of the snapshot on disk that went wrong, since the start.")
	m.applyErrors.WithLabelValues()
	m.drainCut.WithLabelValues()
	for _, outcome := range []string{"clean", "cut"} {
		m.drained.WithLabelValues(outcome)
	}
}

// programmingBuckets are fine up to a second, then seconds to a minute, 5 s to 2 minutes, 30 s to 5.
func programmingBuckets() []float64 {
	return slices.Concat(prometheus.LinearBuckets(0.25, 0.25, 2), prometheus.LinearBuckets(1, 1, 59),
		prometheus.LinearBuckets(60, 5, 12), prometheus.LinearBuckets(120, 30, 7))
}

// Observe counts what a round of the loop did.
func (m *Metrics) Observe(round reconcile.Round) {
	m.observeDurations(round)
	for _, op := range round.Done {
		m.operations.WithLabelValues(op.Key.Kind.String(), op.Verb.String()).Inc()
	}
	for _, left := range round.Left {
		m.drained.WithLabelValues(left.Outcome()).Inc()
		m.drainCut.WithLabelValues().Add(float64(left.Cut))
	}
	if round.Err != nil {
		m.applyErrors.WithLabelValues().Inc()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	changes := compare(m.counted, round.After)
	m.counted = round.After
	m.servicesTotal.WithLabelValues().Add(float64(changes.services))
	m.endpointsTotal.WithLabelValues().Add(float64(len(changes.slices)))
	for _, slice := range changes.slices {
		// As in kube-proxy: what happened before we were there to see it measures nothing.
		if slice.after != nil && slice.after.TriggerTime.After(m.started) {
			m.triggered = append(m.triggered, trigger{slice.family(), slice.after.TriggerTime})
		}
	}
	if round.Complete {
		m.finish(round)
	}
}

func (m *Metrics) observeDurations(round reconcile.Round) {
	part := m.syncPartial
	if round.Before == nil {
		part = m.syncFull
	}
	for _, family := range m.sources.Families {
		took := round.Ended.Sub(round.Began).Seconds()
		m.syncDuration.WithLabelValues(family).Observe(took)
		part.WithLabelValues(family).Observe(took)
	}
}

// finish measures the changes that have been applied now. The caller holds mu.
func (m *Metrics) finish(round reconcile.Round) {
	m.complete = round.After
	for _, family := range m.sources.Families {
		m.lastSync.WithLabelValues(family).Set(unix(round.Ended))
	}
	for _, t := range m.triggered {
		m.programming.WithLabelValues(t.family).Observe(round.Ended.Sub(t.at).Seconds())
	}
	m.triggered = nil
}

// Probe counts an answer of the health server; path is /healthz or /livez.
func (m *Metrics) Probe(path string, code int) {
	counter := m.healthz
	if path == "/livez" {
		counter = m.livez
	}
	counter.WithLabelValues(strconv.Itoa(code)).Inc()
}

// refresh sets what is read at the time of a scrape.
func (m *Metrics) refresh(now time.Time) {
	newest := m.sources.Store.Load()
	m.mu.Lock()
	pending := compare(m.complete, newest)
	m.mu.Unlock()
	m.servicesPending.WithLabelValues().Set(float64(pending.services))
	m.endpointsPending.WithLabelValues().Set(float64(len(pending.slices)))
	for _, family := range m.sources.Families {
		if !newest.ChangedAt.IsZero() {
			m.lastQueued.WithLabelValues(family).Set(unix(newest.ChangedAt))
		}
		internal, external := withoutLocalEndpoints(newest, m.sources.Node, family)
		m.noLocalEndpoints.WithLabelValues("internal", family).Set(float64(internal))
		m.noLocalEndpoints.WithLabelValues("external", family).Set(float64(external))
	}
	status := m.sources.Status()
	for _, kind := range slices.Sorted(maps.Keys(status.Objects)) {
		m.objects.WithLabelValues(kind.String()).Set(float64(status.Objects[kind]))
	}
	m.draining.WithLabelValues().Set(float64(status.Draining))
	m.dataplaneRepairs.WithLabelValues().Set(float64(status.Repaired))
	m.refreshDrains(m.sources.Drains())
	m.refreshKernel()
	for _, kind := range m.sources.Freshness() {
		m.refreshKind(kind, now)
	}
	if m.sources.Held != nil {
		m.held.WithLabelValues().Set(float64(m.sources.Held()))
	}
	if m.sources.Disk != nil {
		m.refreshDisk(m.sources.Disk(), newest.Restored, now)
	}
}

// Conntrack is how full the kernel's table of connections is, and how many packets were dropped for
// that.
type Conntrack struct{ Entries, Limit, Dropped uint64 }

func (m *Metrics) refreshKernel() {
	for kind, count := range m.sources.Failures() {
		m.failures.WithLabelValues(kind).Set(float64(count))
	}
	if table, known := m.sources.Conntrack(); known {
		m.conntrackEntries.WithLabelValues().Set(float64(table.Entries))
		m.conntrackLimit.WithLabelValues().Set(float64(table.Limit))
		m.conntrackDropped.WithLabelValues().Set(float64(table.Dropped))
	}
}

// drainsShown bounds the series of single endpoints.
const drainsShown = 500

func (m *Metrics) refreshDrains(drains reconcile.Drains) {
	for _, gauge := range []*prometheus.GaugeVec{m.drainConnections, m.drainSince, m.drainDeadline} {
		gauge.Reset()
	}
	for _, l := range drains.Leaving[:min(len(drains.Leaving), drainsShown)] {
		service, server, endpoint := reconcile.Place(l.Service, l.Key)
		labels := []string{service, server, endpoint}
		m.drainConnections.WithLabelValues(labels...).Set(float64(l.Connections))
		m.drainSince.WithLabelValues(labels...).Set(unix(l.Since))
		m.drainDeadline.WithLabelValues(labels...).Set(unix(l.Deadline))
	}
	m.drainUnsaved.WithLabelValues().Set(float64(drains.Unsaved))
}

// refreshDisk sets what concerns the snapshot on disk; asOf is that of what is served from it.
func (m *Metrics) refreshDisk(disk snapshotfile.Status, asOf, now time.Time) {
	m.diskBytes.WithLabelValues().Set(float64(disk.Octets))
	m.diskFailures.WithLabelValues().Set(float64(disk.Failures))
	if !disk.AsOf.IsZero() {
		m.diskAge.WithLabelValues().Set(now.Sub(disk.AsOf).Seconds())
	}
	m.restoredAge.WithLabelValues().Set(0)
	if !asOf.IsZero() {
		m.restoredAge.WithLabelValues().Set(now.Sub(asOf).Seconds())
	}
}

func (m *Metrics) refreshKind(kind watch.KindStatus, now time.Time) {
	if !kind.Contact.IsZero() {
		m.contactAge.WithLabelValues(kind.Kind).Set(now.Sub(kind.Contact).Seconds())
	}
	m.repairs.WithLabelValues(kind.Kind).Set(float64(kind.Repaired))
	m.failing.WithLabelValues(kind.Kind).Set(one(kind.Err != nil))
	m.objectsRead.WithLabelValues(kind.Kind).Set(one(!kind.Listed.IsZero()))
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
