package mooring

import (
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// place is what a name stands for in one snapshot.
type place struct {
	kind placeKind
	// service is set for a Service and everything below it.
	service *state.Service
	// endpoint is the label in front of the Service's name.
	endpoint string
}

// placeKind tells the kinds of names apart.
type placeKind uint8

const (
	// nowhere is a name that does not exist.
	nowhere placeKind = iota
	// emptyNonTerminal exists only because names below it exist (RFC 8020).
	emptyNonTerminal
	apex
	serviceName
	endpointName
)

// locate finds out what a name stands for. A negative verdict takes two probes: the
// namespace and the Service.
func (c *config) locate(snap *state.Snapshot, n *name) place {
	switch {
	case n.count == 0:
		return place{kind: apex}
	case n.labels[0] == "svc":
		return c.locateService(snap, n)
	case n.labels[0] == "pod" && n.count == 1:
		return place{kind: emptyNonTerminal}
	}
	return place{}
}

func (c *config) locateService(snap *state.Snapshot, n *name) place {
	if n.count == 1 {
		return place{kind: emptyNonTerminal}
	}
	namespace := n.labels[1]
	if !c.exposes(namespace) || snap.Namespace(namespace) == nil {
		return place{}
	}
	if n.count == 2 {
		return place{kind: emptyNonTerminal}
	}
	service := snap.Service(model.ServiceKey{Namespace: namespace, Name: n.labels[2]})
	switch {
	case service == nil:
		return place{}
	case n.count == 3:
		return place{kind: serviceName, service: service}
	case n.count == 4:
		return place{kind: endpointName, service: service, endpoint: n.labels[3]}
	}
	return place{}
}
