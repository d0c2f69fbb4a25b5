package proxy

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/snapshotfile"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/health"
	"github.com/mooring-project/mooring/proxy/metrics"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// servers are what probes and operators talk to.
type servers struct {
	config config.Config
	logger *slog.Logger
	store  *state.Store
	status func() reconcile.Status
	drains func() reconcile.Drains
	// endpoints reads the endpoints of the kernel; nil if they are not to be measured.
	endpoints func(visit func(metrics.Endpoint))
	// failures counts what went wrong with the kernel.
	failures func() map[string]uint64
	// held counts the addresses held after a takeover from kube-proxy.
	held func() int
	// keeper keeps the snapshot on disk; nil if there is none.
	keeper *snapshotfile.Keeper
}

// newMetrics gives the metrics of a proxy; loop is asked for its status from the first scrape on.
func (s *servers) newMetrics(source watch.Source) *metrics.Metrics {
	sources := metrics.Sources{
		Store: s.store, Status: func() reconcile.Status { return s.status() }, Freshness: source.Status,
		Drains: func() reconcile.Drains { return s.drains() }, Failures: s.failures, Conntrack: readConntrack,
		Node: s.config.Node, Families: families(), Endpoints: s.endpoints, Held: s.held,
	}
	if s.keeper != nil {
		sources.Disk = s.keeper.Status
	}
	return metrics.New(sources)
}

// run has both servers answer until ctx ends.
func (s *servers) run(ctx context.Context, group *errgroup.Group, measured *metrics.Metrics) {
	probes := health.Server{Report: s.report, Patience: s.patience(), Answered: measured.Probe}
	group.Go(func() error {
		return s.listener(s.config.HealthzAddress).Serve(ctx, probes.Handler())
	})
	group.Go(func() error {
		return s.listener(s.config.MetricsAddress).Serve(ctx, measured.Handler(metrics.About{
			Version: s.config.Version, Configz: s.config.Configz, Flags: s.config.Flags, Profiling: s.config.Profiling,
			Drains: serveDrains(s.drains),
		}))
	})
}

func (s *servers) listener(address string) health.Listener {
	return health.Listener{Address: address, HardFail: s.config.BindHardFail, Logger: s.logger}
}

// patience is kube-proxy's: twice the sync period.
func (s *servers) patience() time.Duration { return 2 * s.config.SyncPeriod }

// report tells how the proxy does.
func (s *servers) report() health.Report {
	status, snapshot := s.status(), s.store.Load()
	return health.Report{
		LastUpdated: status.Applied, PendingSince: pendingSince(status, snapshot), Families: families(),
		Eligible: eligible(snapshot.Node(s.config.Node), s.config.Source == "kubernetes"),
	}
}

// healthy is the verdict of a load balancer's probe of one Service on the whole proxy.
func (s *servers) healthy() bool { return s.report().InTime(time.Now(), s.patience()) }

// pendingSince gives the time since which something has been waiting: what could not be applied,
// or a snapshot that the loop has not come to.
func pendingSince(status reconcile.Status, newest *state.Snapshot) time.Time {
	if status.PendingSince.IsZero() && newest.Usable() && newest.Revision != status.Revision {
		return newest.ChangedAt
	}
	return status.PendingSince
}

// toBeDeleted is the taint by which the cluster autoscaler announces that it takes a node away.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// eligible tells whether load balancers may send traffic to a node; one that does not exist gets
// none where its object is expected, which a directory of manifests need not have.
func eligible(node *model.Node, expected bool) bool {
	if node == nil {
		return !expected
	}
	return !node.Deleting && !slices.Contains(node.Taints, toBeDeleted)
}

// families are the values of the label ip_family that this kernel can serve.
func families() []string {
	if hasIPv6() {
		return []string{"IPv4", "IPv6"}
	}
	return []string{"IPv4"}
}
