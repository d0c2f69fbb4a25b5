// Package proxy is mooring-proxy: it wires a source of Services, the kernel, and the loop that
// keeps the second equal to the first.
package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/health"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
	"github.com/mooring-project/mooring/proxy/relay"
)

// Run serves until ctx ends, then leaves the kernel as it is: connections outlive the process.
// It returns an error if something is missing without which nothing can be served.
func Run(ctx context.Context, c config.Config, logger *slog.Logger) error {
	source, err := newSource(c, logger)
	if err != nil {
		return err
	}
	addresses, err := nodeAddresses(c.NodePortAddresses)
	if err != nil {
		return err
	}
	kernel, err := dataplane.Open(dataplaneOptions(c, logger))
	if err != nil {
		return err
	}
	defer kernel.Close()
	listeners := relay.NewSet(logger)
	defer listeners.Close()
	store := state.NewStore()
	loop := reconcile.New(reconcile.Options{
		Store: store, Dataplane: split{kernel, listeners}, Logger: logger,
		Context: planContext(c, addresses), DrainTimeout: c.DrainTimeout,
	})
	logger.Info("serving", "node", c.Node, "source", c.Source, "addresses", addresses)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return source.Run(ctx, store) })
	group.Go(func() error { return loop.Run(ctx) })
	group.Go(func() error {
		return health.Serve(ctx, c.HealthzAddress, health.Handler(func() health.Report { return report(loop.Status()) }), logger)
	})
	return group.Wait()
}

// Cleanup removes everything of ours from the kernel.
func Cleanup(ctx context.Context, c config.Config, logger *slog.Logger) error {
	kernel, err := dataplane.Open(dataplaneOptions(c, logger))
	if err != nil {
		return err
	}
	defer kernel.Close()
	return kernel.Cleanup(ctx)
}

func newSource(c config.Config, logger *slog.Logger) (watch.Source, error) {
	return watch.Parse(c.Source, watch.KubernetesConfig{
		Kubeconfig: c.Kubeconfig, Master: c.Master, QPS: c.QPS, Burst: c.Burst, UserAgent: "mooring-proxy",
		// Headless Services have no address to serve, and may have very many endpoints.
		Selection: watch.Selection{NoHeadless: true},
		Want:      watch.Want{Node: c.Node, ServiceCIDRs: true},
		Logger:    logger,
	})
}

func dataplaneOptions(c config.Config, logger *slog.Logger) dataplane.Options {
	return dataplane.Options{
		IPv4: true, IPv6: hasIPv6(), RandomFully: true,
		DivertMark: c.Mark, RouteTable: c.Table, RulePriority: c.RulePriority,
		MasqueradeAll: c.MasqueradeAll,
		TCPTimeout:    c.TCPTimeout, TCPFinTimeout: c.TCPFinTimeout, UDPTimeout: c.UDPTimeout,
		Logger: logger,
	}
}

// hasIPv6 tells whether the kernel speaks IPv6 at all; it can be built or booted without.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

func planContext(c config.Config, addresses []netip.Addr) plan.Context {
	return plan.Context{
		Place: policy.Place{Node: c.Node}, NodeAddresses: addresses, PodCIDRs: c.PodCIDRs,
		Scheduler: c.Scheduler, LocalhostNodePorts: c.LocalhostNodePorts,
	}
}

func report(s reconcile.Status) health.Report {
	return health.Report{LastUpdated: s.Applied, PendingSince: s.PendingSince}
}
