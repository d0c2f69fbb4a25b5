package proxy

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/metrics"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// endpointReader gives what reads the endpoints of the kernel for a scrape.
func endpointReader(kernel *dataplane.Kernel, store *state.Store, logger *slog.Logger) func(visit func(metrics.Endpoint)) {
	return func(visit func(metrics.Endpoint)) {
		services := addressed(store.Load())
		err := kernel.Counters(context.Background(), func(key plan.Key, holds ipvs.Connections) {
			of := services[servedAt{key.Addr, key.Port, key.Protocol}]
			if of == (model.ServiceKey{}) {
				of = services[servedAt{port: key.Port, protocol: key.Protocol}]
			}
			e := metrics.Endpoint{
				Active: holds.Active, Inactive: holds.Inactive, Connections: holds.Counters.Connections,
				PacketsIn: holds.Counters.PacketsIn, PacketsOut: holds.Counters.PacketsOut,
				BytesIn: holds.Counters.BytesIn, BytesOut: holds.Counters.BytesOut,
			}
			e.Service, e.VirtualServer, e.Address = reconcile.Place(of, key)
			visit(e)
		})
		if err != nil {
			logger.Warn("metrics of endpoints are not complete", "err", err)
		}
	}
}

// servedAt is where a port of a Service is served; NodePorts are at the zero Addr.
type servedAt struct {
	addr     netip.Addr
	port     uint16
	protocol model.Protocol
}

// addressed gives the Services of all addresses.
func addressed(snapshot *state.Snapshot) map[servedAt]model.ServiceKey {
	services := make(map[servedAt]model.ServiceKey)
	for key, entry := range snapshot.Services() {
		service := entry.Service
		for _, port := range service.Ports {
			for _, list := range [][]netip.Addr{service.ExternalIPs, service.LoadBalancerIPs, service.ClusterIPs} {
				for _, addr := range list {
					services[servedAt{addr, port.Port, port.Protocol}] = key
				}
			}
			if port.NodePort != 0 {
				services[servedAt{port: port.NodePort, protocol: port.Protocol}] = key
			}
		}
	}
	return services
}
