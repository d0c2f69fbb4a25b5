package mooring

import (
	"context"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
)

var (
	programmingDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "dns_programming_duration_seconds",
		// From 1 millisecond to about 17 minutes, as the stock plugin's.
		Buckets:                     prometheus.ExponentialBuckets(0.001, 2, 20),
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help:                        "Time from a change of a Service's endpoints until it could be asked for.",
	}, []string{"service_kind"})

	snapshotRevision = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "snapshot_revision",
		Help:      "Number of the snapshot that queries are answered from.",
	}, []string{"zone"})

	synced = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "synced",
		Help:      "1 once all objects have been listed, 0 before.",
	}, []string{"zone"})

	contactAge = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "source_contact_age_seconds",
		Help:      "Time since the source of a kind of object was last heard of.",
	}, []string{"zone", "kind"})

	auditRepairs = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "source_audit_repairs",
		Help:      "Objects of a kind whose changes the watch had missed and the audit has found, since the start.",
	}, []string{"zone", "kind"})
)

// watchSnapshots keeps the metrics, and what is known of the age of the data, up to date
// until ctx ends.
func (m *Mooring) watchSnapshots(ctx context.Context, sources []feeding) {
	ticker := time.NewTicker(freshnessInterval)
	defer ticker.Stop()
	m.showDisk(time.Now())
	seen := m.Store.Load()
	for {
		snap := m.Store.Load()
		m.showSnapshot(snap)
		observeLatency(seen, snap, time.Now())
		seen = snap
		select {
		case <-snap.Superseded():
		case now := <-ticker.C:
			m.showFreshness(statuses(sources), now)
			m.showDisk(now)
		case <-ctx.Done():
			return
		}
	}
}

func statuses(sources []feeding) (kinds []watch.KindStatus) {
	for _, s := range sources {
		kinds = append(kinds, s.Status()...)
	}
	return kinds
}

func (m *Mooring) showSnapshot(snap *state.Snapshot) {
	zone := m.naming.primary
	snapshotRevision.WithLabelValues(zone).Set(float64(snap.Revision))
	value := 0.0
	if snap.Synced {
		value = 1
	}
	synced.WithLabelValues(zone).Set(value)
}

// observeLatency records, for each EndpointSlice that is new since a synced snapshot, how
// long ago the change was that led to it. This is the DNS programming latency of
// Kubernetes' scalability targets; slices that no controller wrote have no such time.
func observeLatency(before, after *state.Snapshot, now time.Time) {
	if !before.Synced {
		return
	}
	after.ChangedServices(before, func(_ model.ServiceKey, old, current *state.Service) {
		if current == nil {
			return
		}
		for _, slice := range current.Slices {
			if !slice.TriggerTime.IsZero() && !hasTrigger(old, slice) {
				programmingDuration.WithLabelValues(serviceKind(current.Service)).Observe(now.Sub(slice.TriggerTime).Seconds())
			}
		}
	})
}

// hasTrigger tells whether the slice had been triggered at the same time already.
func hasTrigger(old *state.Service, slice *model.EndpointSlice) bool {
	if old == nil {
		return false
	}
	for _, earlier := range old.Slices {
		if earlier.Name == slice.Name && earlier.TriggerTime.Equal(slice.TriggerTime) {
			return true
		}
	}
	return false
}

// serviceKind is the label by which the latency is told apart. Only a controller sets
// the trigger time, so a headless Service has a selector here.
func serviceKind(service *model.Service) string {
	if service.Headless {
		return "headless_with_selector"
	}
	return "cluster_ip"
}
