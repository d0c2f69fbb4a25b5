package metrics

import (
	"strings"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
)

// The values of the label ip_family, as the API spells them.
const (
	ipv4 = "IPv4"
	ipv6 = "IPv6"
)

// changes is what differs between two snapshots.
type changes struct {
	services int
	slices   []sliceChange
}

// sliceChange is an EndpointSlice before and after; one of them may be nil.
type sliceChange struct{ before, after *model.EndpointSlice }

// family gives the address family; a slice that never had an endpoint counts as IPv4.
func (c sliceChange) family() string {
	for _, slice := range []*model.EndpointSlice{c.after, c.before} {
		if slice != nil && len(slice.Endpoints) > 0 && slice.Endpoints[0].Addr.Is6() {
			return ipv6
		}
	}
	return ipv4
}

func compare(before, after *state.Snapshot) changes {
	var c changes
	after.ChangedServices(before, func(_ model.ServiceKey, old, now *state.Service) {
		if old == nil || now == nil || !old.Service.Equal(now.Service) {
			c.services++
		}
		c.compareSlices(slicesOf(old), slicesOf(now))
	})
	return c
}

func slicesOf(entry *state.Service) []*model.EndpointSlice {
	if entry == nil {
		return nil
	}
	return entry.Slices
}

// compareSlices merges two lists sorted by name.
func (c *changes) compareSlices(before, after []*model.EndpointSlice) {
	for len(before) > 0 || len(after) > 0 {
		switch order := compareHeads(before, after); {
		case order < 0:
			c.slices, before = append(c.slices, sliceChange{before: before[0]}), before[1:]
		case order > 0:
			c.slices, after = append(c.slices, sliceChange{after: after[0]}), after[1:]
		default:
			if !before[0].Equal(after[0]) {
				c.slices = append(c.slices, sliceChange{before[0], after[0]})
			}
			before, after = before[1:], after[1:]
		}
	}
}

func compareHeads(before, after []*model.EndpointSlice) int {
	switch {
	case len(before) == 0:
		return 1
	case len(after) == 0:
		return -1
	}
	return strings.Compare(before[0].Name, after[0].Name)
}

// withoutLocalEndpoints counts the ports of one family whose traffic of policy Local is dropped
// because the endpoints are all on other nodes.
func withoutLocalEndpoints(snapshot *state.Snapshot, node, family string) (internal, external int) {
	for _, entry := range snapshot.Services() {
		service := entry.Service
		inside, outside := service.InternalTrafficPolicy == model.Local, service.ExternalTrafficPolicy == model.Local
		if !inside && !outside || !hasFamily(service, family) {
			continue
		}
		for _, port := range service.Ports {
			if !onlyElsewhere(entry, port, node, family) {
				continue
			}
			if inside {
				internal++
			}
			if outside {
				external++
			}
		}
	}
	return internal, external
}

func hasFamily(service *model.Service, family string) bool {
	for _, address := range service.ClusterIPs {
		if address.Is6() == (family == ipv6) {
			return true
		}
	}
	return false
}

func onlyElsewhere(entry *state.Service, port model.ServicePort, node, family string) bool {
	place := policy.Place{Node: node}
	return !policy.Select(entry.Slices, port, family == ipv6, model.Local, place).Any() &&
		policy.Select(entry.Slices, port, family == ipv6, model.Cluster, place).Any()
}
