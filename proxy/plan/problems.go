package plan

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
)

// A Problem is a part of a Service that the proxy does without.
type Problem struct {
	// Kind is one of the words below, for people to sort by.
	Kind string
	// Field has the Value.
	Field, Value string
	Reason       string
}

// The kinds of Problem.
const (
	InvalidAnnotation = "InvalidAnnotation"
	InvalidAddress    = "InvalidAddress"
)

// Problems lists what of a Service and its endpoints has no effect, in a fixed order.
func (c Context) Problems(entry *state.Service) []Problem {
	service := entry.Service
	if c.Skip(service) != "" {
		return nil
	}
	problems := c.badAnnotations(service)
	problems = append(problems, unfitOf("spec.clusterIPs", slices.Values(service.ClusterIPs), unfitClusterIP)...)
	if c.ExternalIPs {
		problems = append(problems, unfitOf("spec.externalIPs", slices.Values(service.ExternalIPs), policy.Unfit)...)
	}
	problems = append(problems, unfitOf("status.loadBalancer.ingress", slices.Values(service.LoadBalancerIPs), policy.Unfit)...)
	for _, slice := range entry.Slices {
		problems = append(problems, unfitOf("endpoints of EndpointSlice "+slice.Name, addressesOf(slice), policy.Unfit)...)
	}
	return problems
}

func addressesOf(slice *model.EndpointSlice) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for i := range slice.Endpoints {
			if !yield(slice.Endpoints[i].Addr) {
				return
			}
		}
	}
}

// unfitOf gives one Problem for all addresses of a field that are unfit, which may be many.
func unfitOf(field string, addresses iter.Seq[netip.Addr], unfit func(netip.Addr) string) []Problem {
	var problem Problem
	for address := range addresses {
		reason := unfit(address)
		switch {
		case reason == "":
		case problem.Field == "":
			problem = Problem{Kind: InvalidAddress, Field: field, Value: address.String(), Reason: reason + "; it is left out"}
		default:
			problem.Reason = "among others: " + reason + "; they are left out"
		}
	}
	if problem.Field == "" {
		return nil
	}
	return []Problem{problem}
}

// unfitClusterIP leaves link-local addresses to who has made the Service network.
func unfitClusterIP(address netip.Addr) string {
	if address.IsLinkLocalUnicast() {
		return ""
	}
	return policy.Unfit(address)
}

// fit gives the addresses that can be served.
func fit(addresses []netip.Addr, unfit func(netip.Addr) string) []netip.Addr {
	for i, address := range addresses {
		if unfit(address) == "" {
			continue
		}
		kept := append([]netip.Addr(nil), addresses[:i]...)
		return append(kept, fit(addresses[i+1:], unfit)...)
	}
	return addresses
}

// longestValue bounds what of a value is repeated.
const longestValue = 100

func shortened(value string) string {
	if len(value) <= longestValue {
		return value
	}
	return fmt.Sprintf("%.*s... (%d octets)", longestValue, value, len(value))
}
