package mooring

import (
	"net/netip"
	"strings"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// place is what a name stands for in one snapshot.
type place struct {
	kind placeKind
	// why says why a name stands for nothing.
	why reason
	// service is set for a Service and everything below it.
	service *state.Service
	selector
	// prefer is true for a zonal name that widens when its zone is empty.
	prefer bool
	// addr is the address that a Pod's name or a reverse name spells.
	addr netip.Addr
}

// selector picks endpoints and ports of a Service. An empty field admits everything.
type selector struct {
	endpoint, cluster, port, protocol, topology string
}

// placeKind tells the kinds of names apart.
type placeKind uint8

const (
	// nowhere is a name that does not exist.
	nowhere placeKind = iota
	// emptyNonTerminal exists only because names below it exist (RFC 8020).
	emptyNonTerminal
	apex
	versionName
	nameserverName
	serviceName
	clusterName
	endpointName
	protocolName
	portName
	zonalName
	podName
	reverseName
)

// reason says why there is nothing at a name.
type reason uint8

const (
	unexplained reason = iota
	noSuchNamespace
	notExposed
	noSuchService
	noneReady
	noSuchEndpoint
	notHeadless
	podsAreOff
	noSuchPod
	noSuchAddress
)

// locate finds out what a name stands for. A negative verdict takes two probes: the
// namespace and the Service.
func (c *config) locate(snap view, n *name) place {
	if n.count == 0 {
		return place{kind: apex}
	}
	if n.zone.holdsReverse {
		if p, reverse := c.locateReverse(snap, n); reverse {
			return p
		}
	}
	switch n.labels[0] {
	case "svc":
		return c.locateService(snap, n)
	case "pod":
		return c.locatePod(snap, n)
	case "dns-version":
		return only(n, 1, versionName)
	case "dns":
		return c.locateNameserver(n)
	}
	return place{}
}

// only gives a place if the name has so many labels, and nothing otherwise.
func only(n *name, labels int, kind placeKind) place {
	if n.count == labels {
		return place{kind: kind}
	}
	return place{}
}

// locateNameserver knows ns.dns, the name that the SOA record gives.
func (c *config) locateNameserver(n *name) place {
	switch {
	case n.count == 1 && !c.stock:
		return place{kind: emptyNonTerminal}
	case n.count == 2 && n.labels[1] == "ns":
		return place{kind: nameserverName}
	}
	return place{}
}

func (c *config) locateService(snap view, n *name) place {
	if n.count == 1 {
		return place{kind: emptyNonTerminal}
	}
	if why := c.hidden(snap, n.labels[1]); why != unexplained {
		return place{why: why}
	}
	if n.count == 2 {
		return place{kind: emptyNonTerminal}
	}
	service := snap.Service(model.ServiceKey{Namespace: n.labels[1], Name: n.labels[2]})
	if service == nil {
		return place{why: noSuchService}
	}
	if c.ignoreEmpty && !service.Service.Headless && service.Service.Type != model.ExternalName && !anyReady(service) {
		return place{why: noneReady, service: service}
	}
	if n.count == 3 {
		return place{kind: serviceName, service: service}
	}
	return c.locateBelowService(n, service)
}

// hidden says why clients cannot see a namespace, unexplained if they can.
func (c *config) hidden(snap view, namespace string) reason {
	if !c.lists(namespace) {
		return notExposed
	}
	if snap.Namespace(namespace) == nil {
		return noSuchNamespace
	}
	return unexplained
}

// locateBelowService knows endpoint, _protocol, _port._protocol and zonal names.
func (c *config) locateBelowService(n *name, service *state.Service) place {
	p := place{service: service}
	if service.Service.Type == model.ExternalName {
		return p
	}
	first := n.labels[3]
	switch {
	case n.zone.multicluster && !strings.HasPrefix(first, "_") && !strings.HasPrefix(n.labels[4], "_"):
		return c.locateImported(n, p)
	case c.zonal && !n.zone.multicluster && first == "_zone":
		return c.locateZonal(n, p)
	case n.count == 4 && strings.HasPrefix(first, "_") && len(first) > 1 && !c.stock:
		p.kind, p.protocol = protocolName, first[1:]
	case n.count == 4:
		p.kind, p.endpoint = endpointName, first
	case n.count == 5 && n.rest == "" && c.portSyntax(first, n.labels[4]):
		p.kind, p.protocol, p.port = portName, strings.TrimPrefix(first, "_"), strings.TrimPrefix(n.labels[4], "_")
	default:
		p.why = noSuchEndpoint
	}
	return p
}

// locateImported knows CLUSTER and ENDPOINT.CLUSTER below a Service of a cluster set.
func (c *config) locateImported(n *name, p place) place {
	switch {
	case n.count == 4 && !c.stock:
		p.kind, p.cluster = clusterName, n.labels[3]
	case n.count == 5 && n.rest == "":
		p.kind, p.endpoint, p.cluster = endpointName, n.labels[4], n.labels[3]
	default:
		p.why = noSuchEndpoint
	}
	return p
}

// portSyntax tells whether two labels are _protocol and _port. The stock plugin does not
// insist on the underscores.
func (c *config) portSyntax(protocol, port string) bool {
	return c.stock || len(protocol) > 1 && protocol[0] == '_' && len(port) > 1 && port[0] == '_'
}

// locateZonal knows ZONE.pin._zone and ZONE.prefer._zone, where ZONE may have dots.
func (c *config) locateZonal(n *name, p place) place {
	switch {
	case !p.service.Service.Headless:
		p.why = notHeadless
	case n.rest == "" && c.stock:
	case n.count == 4:
		p.kind = emptyNonTerminal
	case n.labels[4] != "pin" && n.labels[4] != "prefer":
	case n.rest == "":
		p.kind = emptyNonTerminal
	default:
		p.kind, p.topology, p.prefer = zonalName, n.rest, n.labels[4] == "prefer"
	}
	return p
}

// exists tells whether a place that has no record of the type asked for has others, or
// names below it.
func (c *config) exists(p *place) bool {
	switch p.kind {
	case nowhere, reverseName:
		return false
	case serviceName:
		// A headless name exists while an endpoint is ready (specification 2.4.1).
		return !p.service.Service.Headless || anyReady(p.service)
	case endpointName, clusterName:
		return c.anyEndpoint(p)
	case protocolName, portName:
		return c.anyPort(p)
	default:
		return true
	}
}
