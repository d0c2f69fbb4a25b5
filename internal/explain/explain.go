// Package explain says in words who serves a Service and why the others do not. It is pure: it
// reads one snapshot and repeats the verdicts of internal/policy, on which the rules are built.
package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
)

// Service explains one Service as seen from a place, in lines of text that end in a newline.
func Service(snapshot *state.Snapshot, key model.ServiceKey, place policy.Place) string {
	entry := snapshot.Service(key)
	if entry == nil {
		return missing(snapshot, key)
	}
	var b strings.Builder
	service := entry.Service
	fmt.Fprintf(&b, "Service %s: %s\n", key, headline(service))
	if service.Type == model.ExternalName {
		return b.String()
	}
	for _, port := range service.Ports {
		for _, ipv6 := range families(service, entry.Slices) {
			explainPort(&b, entry, port, ipv6, place)
		}
	}
	return b.String()
}

func missing(snapshot *state.Snapshot, key model.ServiceKey) string {
	if snapshot.Namespace(key.Namespace) == nil {
		return fmt.Sprintf("Service %s does not exist, nor does the namespace %s\n", key, key.Namespace)
	}
	return fmt.Sprintf("Service %s does not exist\n", key)
}

func headline(service *model.Service) string {
	switch {
	case service.Type == model.ExternalName:
		return "an alias in DNS of " + service.ExternalName
	case service.Headless:
		return "headless, its name stands for its endpoints"
	case service.ProxyName != "":
		return "left to the proxy named " + service.ProxyName
	}
	return fmt.Sprintf("%s %s", service.Type, joined(service.ClusterIPs))
}

func joined(addresses []netip.Addr) string {
	texts := make([]string, len(addresses))
	for i, address := range addresses {
		texts[i] = address.String()
	}
	return strings.Join(texts, ", ")
}

// families gives the address families of a Service, IPv4 first: those of its ClusterIPs, or of
// its endpoints if it is headless.
func families(service *model.Service, endpointSlices []*model.EndpointSlice) []bool {
	var v4, v6 bool
	note := func(address netip.Addr) {
		v4, v6 = v4 || address.Is4(), v6 || address.Is6()
	}
	for _, address := range service.ClusterIPs {
		note(address)
	}
	if service.Headless {
		for _, slice := range endpointSlices {
			for _, endpoint := range slice.Endpoints {
				note(endpoint.Addr)
			}
		}
	}
	var result []bool
	if v4 || !v6 {
		result = append(result, false)
	}
	if v6 {
		result = append(result, true)
	}
	return result
}

func explainPort(b *strings.Builder, entry *state.Service, port model.ServicePort, ipv6 bool, place policy.Place) {
	selection := policy.Select(entry.Slices, port, ipv6, entry.Service.InternalTrafficPolicy, place)
	serving := len(selection.Targets())
	fmt.Fprintf(b, "  port %d/%s over %s: %d of %d endpoints serve", port.Port, port.Protocol, family(ipv6), serving, len(selection))
	if place.Node != "" {
		fmt.Fprintf(b, " node %s", place.Node)
	}
	if port.NodePort != 0 {
		fmt.Fprintf(b, ", NodePort %d", port.NodePort)
	}
	b.WriteByte('\n')
	if serving == 0 {
		fmt.Fprintf(b, "    connections are refused: %s\n", whyNobody(entry, port, selection))
	}
	for _, v := range selection {
		fmt.Fprintf(b, "    %-24s %s%s\n", v.Target, v.Reason, origin(v.Endpoint))
	}
}

func family(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// whyNobody says why no endpoint serves a port.
func whyNobody(entry *state.Service, port model.ServicePort, selection policy.Selection) string {
	switch {
	case len(selection) > 0:
		return fmt.Sprintf("none of %d endpoints is fit to serve", len(selection))
	case slices.ContainsFunc(entry.Slices, func(s *model.EndpointSlice) bool { return len(s.Endpoints) > 0 }):
		return fmt.Sprintf("no endpoint offers the port named %q with protocol %s in this family", port.Name, port.Protocol)
	case entry.Service.Selector == "":
		return "it has no selector, and nobody has made an EndpointSlice with an endpoint for it"
	}
	return fmt.Sprintf("its selector %s matches no Pod with an address", entry.Service.Selector)
}

func origin(e model.Endpoint) string {
	var text string
	if e.TargetPod() != "" {
		text += ", pod " + e.TargetPod()
	}
	if e.Node() != "" {
		text += ", on " + e.Node()
	}
	return text
}
