package mooring

import (
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// AutoPath implements autopath.AutoPather: the search path of the Pod that asks, which
// ends in an empty element, or nil if it is not known. It needs pods verified.
func (m *Mooring) AutoPath(state request.Request) []string {
	zone := matchZone(m.zones, state.Name())
	if zone == nil || m.pods != podsVerified {
		return nil
	}
	snap := m.Store.Load()
	namespace := namespaceAt(snap, clientAddr(state))
	if m.stock {
		if pod := m.clientPod(state); pod != nil {
			namespace = pod.Namespace
		}
	}
	if namespace == "" {
		return nil
	}
	svc := below("svc", zone.name)
	search := append([]string{namespace + "." + svc, svc, zone.name}, m.hostSearch...)
	return append(search, "")
}

// hostSearch is the search list of the machine this server runs on, which the kubelet
// appends to a Pod's.
func hostSearch() []string {
	resolv, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	plugin.Zones(resolv.Search).Normalize()
	return resolv.Search
}
