// Package proxy is mooring-proxy: it wires a source of Services, the kernel, and the loop that
// keeps the second equal to the first.
package proxy

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/health/nodeport"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
	"github.com/mooring-project/mooring/proxy/relay"
)

// Do does what a command line asks for; out receives what is to be printed.
func Do(ctx context.Context, command config.Command, logger *slog.Logger, out io.Writer) error {
	switch command.Action {
	case config.Init:
		return Init(ctx, command.Config, logger)
	case config.Plan:
		return Plan(ctx, command.Config, logger, out)
	case config.Verify:
		return Verify(ctx, command.Config, logger, out)
	case config.Cleanup:
		return Cleanup(ctx, command.Config, logger)
	default:
		return Run(ctx, command.Config, logger)
	}
}

// Run serves until ctx ends, then leaves the kernel as it is: connections outlive the process.
// It returns an error if something is missing without which nothing can be served.
func Run(ctx context.Context, c config.Config, logger *slog.Logger) error {
	source, err := NewSource(c, logger)
	if err != nil {
		return err
	}
	if c.AdoptKubeProxy {
		if err := awaitEnd(ctx, c, logger); err != nil {
			return nil //nolint:nilerr // ctx ended before kube-proxy
		}
	}
	own, err := newAddresses(c, logger)
	if err != nil {
		return err
	}
	kernel, err := dataplane.Open(dataplaneOptions(c, logger))
	if err != nil {
		return err
	}
	defer kernel.Close()
	setProcess(c, logger)
	watch, err := kernel.OpenWatch()
	if err != nil {
		return err
	}
	listeners := relay.NewSet(logger)
	defer listeners.Close()
	store := state.NewStore()
	keeper, err := restore(c, store, own, source, logger)
	if err != nil {
		return err
	}
	events, err := newEvents(c, logger)
	if err != nil {
		return err
	}
	counted := newFailures(kernel)
	adoption := newAdoption(kernel, logger)
	servers := &servers{failures: counted.Counts, config: c, logger: logger, store: store, keeper: keeper, held: adoption.heldAddresses}
	if c.EndpointMetrics {
		servers.endpoints = endpointReader(kernel, store, logger)
	}
	measured := servers.newMetrics(source)
	options := loopOptions(c, store, own, logger)
	options.Dataplane, options.Observe, options.Watch = split{counted, listeners}, measured.Observe, watch.Run
	options.Complain = warnOfProblem(events)
	if c.AdoptKubeProxy {
		adoption.join(&options)
	} else {
		adoption.warn(ctx)
	}
	loop := reconcile.New(options)
	servers.status, servers.drains = loop.Status, loop.Drains
	checks := newHealthChecks(c, store, own, nodeport.NewSet(servers.healthy, logger))
	defer checks.set.Close()
	checks.set.Refused = warnOfHealthCheck(events, c.Node)
	logger.Info("serving", "node", c.Node, "source", c.Source)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return source.Run(ctx, store) })
	if keeper != nil {
		group.Go(func() error { keeper.Run(ctx, store); return nil })
	}
	group.Go(func() error { return loop.Run(ctx) })
	if c.AdoptKubeProxy {
		group.Go(func() error { adoption.run(ctx); return nil })
	}
	group.Go(func() error { checks.run(ctx); return nil })
	group.Go(func() error { events.Run(ctx); return nil })
	group.Go(func() error {
		own.follow(ctx, func() { loop.Recheck(); checks.recheck() })
		return nil
	})
	group.Go(func() error { return config.Watch(ctx, c.File) })
	servers.run(ctx, group, measured)
	return group.Wait()
}

// Init does what Run does before it serves, and what needs most rights: kernel parameters, the
// table, the rule.
func Init(ctx context.Context, c config.Config, logger *slog.Logger) error {
	kernel, err := dataplane.Open(dataplaneOptions(c, logger))
	if err != nil {
		return err
	}
	defer kernel.Close()
	setProcess(c, logger)
	return kernel.Setup(ctx)
}

// NewSource gives what the proxy reads Services from.
func NewSource(c config.Config, logger *slog.Logger) (watch.Source, error) {
	return watch.Parse(c.Source, sourceConfig(c, logger))
}

// sourceConfig says which objects to read, and how.
func sourceConfig(c config.Config, logger *slog.Logger) watch.KubernetesConfig {
	return watch.KubernetesConfig{
		Kubeconfig: c.Kubeconfig, Master: c.Master, QPS: c.QPS, Burst: c.Burst,
		ContentType: c.ContentType, AcceptContentTypes: c.AcceptContentTypes, UserAgent: "mooring-proxy",
		// Headless Services have no address to serve, and may have very many endpoints.
		Selection: watch.Selection{NoHeadless: true, NoTargets: true},
		Want:      watch.Want{Node: c.Node, ServiceCIDRs: true},
		// There, 0 is the default and less than that is never.
		AuditInterval: cmp.Or(c.WatchAuditPeriod, -1),
		Eager:         !c.AdoptKubeProxy,
		Logger:        logger,
	}
}

// loopOptions are those that say what is to be, without the parts that do something.
func loopOptions(c config.Config, store *state.Store, own *addresses, logger *slog.Logger) reconcile.Options {
	return reconcile.Options{
		Store: store, Logger: logger,
		Context: planContext(c), DrainTimeout: c.DrainTimeout, AuditPeriod: c.AuditPeriod,
		NodeAddresses: own.nodePorts, NodePodCIDRs: c.DetectLocal.Mode == config.NodeCIDR,
		Early:  !c.AdoptKubeProxy,
		Drains: newDrainFile(c.DrainLedger, c.Node),
	}
}

func dataplaneOptions(c config.Config, logger *slog.Logger) dataplane.Options {
	return dataplane.Options{
		IPv4: true, IPv6: hasIPv6(), RandomFully: true,
		DivertMark: c.Mark, RouteTable: c.Table, RulePriority: c.RulePriority,
		MasqueradeMark: c.MasqueradeMark, MasqueradeAll: c.MasqueradeAll, PodInterface: podInterface(c.DetectLocal),
		TCPTimeout: c.TCPTimeout, TCPFinTimeout: c.TCPFinTimeout, UDPTimeout: c.UDPTimeout,
		Logger: logger,
	}
}

// podInterface names the interfaces that pods are told by, as the data plane wants it; empty if
// they are told by their addresses.
func podInterface(d config.DetectLocal) string {
	if d.InterfacePrefix != "" {
		return d.InterfacePrefix + "*"
	}
	return d.Bridge
}

// hasIPv6 tells whether the kernel speaks IPv6 at all; it can be built or booted without.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

func planContext(c config.Config) plan.Context {
	return plan.Context{
		Place: policy.Place{Node: c.Node}, PodCIDRs: c.DetectLocal.PodCIDRs,
		Scheduler: c.Scheduler, LocalhostNodePorts: c.LocalhostNodePorts, ExternalIPs: c.ExternalIPs,
		ProxyName: c.ServiceProxyName,
	}
}
