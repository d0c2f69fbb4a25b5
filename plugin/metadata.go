package mooring

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"

	"github.com/mooring-project/mooring/internal/model"
)

// Metadata implements metadata.Provider. The labels are those of the stock plugin,
// kubernetes/..., so that log formats and views that name them keep working.
func (m *Mooring) Metadata(ctx context.Context, state request.Request) context.Context {
	m.clientMetadata(ctx, state)
	n, ours := parseName(m.zones, state.QName())
	if !ours {
		return ctx
	}
	r := m.readName(&n)
	publish(ctx, "port-name", r.port)
	publish(ctx, "protocol", r.protocol)
	publish(ctx, "endpoint", r.endpoint)
	if m.zonal {
		publish(ctx, "zone", r.topology)
	}
	if n.zone.multicluster {
		publish(ctx, "cluster", r.cluster)
	}
	publish(ctx, "service", r.service)
	publish(ctx, "namespace", r.namespace)
	publish(ctx, "kind", r.kind)
	return ctx
}

// clientMetadata publishes what is known of the Pod that asks. Where several Pods share
// an address, nothing is: it would be the wrong Pod as often as not.
func (m *Mooring) clientMetadata(ctx context.Context, state request.Request) {
	pod := m.clientPod(state)
	if pod == nil {
		return
	}
	publish(ctx, "client-namespace", pod.Namespace)
	publish(ctx, "client-pod-name", pod.Name)
	for label, value := range pod.Labels {
		publish(ctx, "client-label/"+label, value)
	}
}

func (m *Mooring) clientPod(state request.Request) *model.Pod {
	if m.pods != podsVerified {
		return nil
	}
	use := m.Store.Load().Address(clientAddr(state))
	if use == nil || len(use.Pods) == 0 || len(use.Pods) > 1 && !m.stock {
		return nil
	}
	return use.Pods[0]
}

// clientAddr is the address a query came from.
func clientAddr(state request.Request) netip.Addr {
	switch addr := state.W.RemoteAddr().(type) {
	case *net.UDPAddr:
		return addr.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return addr.AddrPort().Addr().Unmap().WithZone("")
	}
	addr, _ := netip.ParseAddr(state.IP())
	return addr.Unmap().WithZone("")
}

func publish(ctx context.Context, label, value string) {
	metadata.SetValueFunc(ctx, "kubernetes/"+label, func() string { return value })
}

// reading is what a name says by its form alone.
type reading struct {
	port, protocol, endpoint, cluster, topology, service, namespace, kind string
}

// readName reads a name without looking anything up.
func (c *config) readName(n *name) (r reading) {
	if n.count == 0 || n.labels[0] != "svc" && n.labels[0] != "pod" {
		return reading{}
	}
	r.kind, r.namespace, r.service = n.labels[0], n.labels[1], n.labels[2]
	switch {
	case n.count == 4:
		r.endpoint = n.labels[3]
	case n.count == 5 && n.rest == "" && n.zone.multicluster && !strings.HasPrefix(n.labels[3], "_") && !strings.HasPrefix(n.labels[4], "_"):
		r.cluster, r.endpoint = n.labels[3], n.labels[4]
	case n.count == 5 && n.rest == "":
		r.protocol, r.port = strings.TrimPrefix(n.labels[3], "_"), strings.TrimPrefix(n.labels[4], "_")
	case c.zonal && n.rest != "" && n.labels[3] == "_zone":
		r.topology = n.rest
	}
	return r
}
