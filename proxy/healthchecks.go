package proxy

import (
	"context"
	"net/netip"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/health/nodeport"
)

// checkAgain is the wait before an address of a health check that could not be had is tried again.
const checkAgain = 30 * time.Second

// healthChecks has the healthCheckNodePorts of Services answered.
type healthChecks struct {
	node string
	// proxyName is the service-proxy-name of the Services that are served.
	proxyName string

	store *state.Store
	set   *nodeport.Set
	// addresses gives those that the ports are answered on.
	addresses func(node *model.Node) []netip.Addr
	// moved tells that the addresses may have changed.
	moved chan struct{}

	// seen is the snapshot that counts was made from.
	seen   *state.Snapshot
	counts map[model.ServiceKey]checkCounts
}

// checkCounts are the ready endpoints of a Service on this node.
type checkCounts struct {
	port uint16
	// local has the families that the Service has an address of, true for IPv6.
	local map[bool]int
}

func newHealthChecks(c config.Config, store *state.Store, own *addresses, set *nodeport.Set) *healthChecks {
	h := &healthChecks{node: c.Node, proxyName: c.ServiceProxyName, store: store, set: set, moved: make(chan struct{}, 1), addresses: own.nodePorts}
	if c.NodePortAddresses.All() {
		all := everywhere(hasIPv6())
		h.addresses = func(*model.Node) []netip.Addr { return all }
	}
	return h
}

// recheck has run look at the addresses again.
func (h *healthChecks) recheck() {
	select {
	case h.moved <- struct{}{}:
	default: // it will do so anyway
	}
}

// run follows the snapshots until ctx ends. Until the first one is usable nothing is answered.
func (h *healthChecks) run(ctx context.Context) {
	h.seen, h.counts = state.NewStore().Load(), make(map[model.ServiceKey]checkCounts)
	for {
		snapshot := h.store.Load()
		var again <-chan time.Time
		if snapshot.Usable() && !h.apply(snapshot) {
			again = time.After(checkAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-snapshot.Superseded():
		case <-h.moved:
		case <-again:
		}
	}
}

// apply looks at the Services that changed.
func (h *healthChecks) apply(snapshot *state.Snapshot) (complete bool) {
	snapshot.ChangedServices(h.seen, func(key model.ServiceKey, _, now *state.Service) {
		delete(h.counts, key)
		if now != nil && now.Service.HealthCheckNodePort != 0 && now.Service.ExternalTrafficPolicy == model.Local && now.Service.ProxyName == h.proxyName {
			h.counts[key] = countLocal(now, h.node)
		}
	})
	h.seen = snapshot
	addresses := h.addresses(snapshot.Node(h.node))
	want := make(map[nodeport.Check]int)
	for key, counts := range h.counts {
		for _, address := range addresses {
			if local, served := counts.local[address.Is6()]; served {
				want[nodeport.Check{Namespace: key.Namespace, Name: key.Name, Address: netip.AddrPortFrom(address, counts.port)}] = local
			}
		}
	}
	return h.set.Apply(want)
}

// countLocal counts the endpoints on a node that are ready, each once however many ports it
// serves. One that only still serves while it terminates does not count: the load balancer is
// to look for another node.
func countLocal(entry *state.Service, node string) checkCounts {
	counts := checkCounts{port: entry.Service.HealthCheckNodePort, local: make(map[bool]int)}
	for _, address := range entry.Service.ClusterIPs {
		ready := make(map[netip.Addr]struct{})
		for _, port := range entry.Service.Ports {
			for _, v := range policy.Select(entry.Slices, port, address.Is6(), model.Local, policy.Place{Node: node}) {
				if v.Use && v.Reason == policy.Serves {
					ready[v.Endpoint.Addr] = struct{}{}
				}
			}
		}
		counts.local[address.Is6()] = len(ready)
	}
	return counts
}

// everywhere gives the unspecified addresses, which stand for all addresses of their families.
func everywhere(ipv6 bool) []netip.Addr {
	all := []netip.Addr{netip.IPv4Unspecified()}
	if ipv6 {
		all = append(all, netip.IPv6Unspecified())
	}
	return all
}
