package mooring

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// eachReady goes over the ready endpoints of a Service until visit says false. The
// EndpointSlice controller sets ready for all endpoints of a Service that publishes
// addresses which are not.
func eachReady(service *state.Service, visit func(*model.EndpointSlice, *model.Endpoint) bool) {
	for _, slice := range service.Slices {
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; e.Ready && !visit(slice, e) {
				return
			}
		}
	}
}

func anyReady(service *state.Service) bool {
	ready, _ := countEndpoints(service)
	return ready > 0
}

// countEndpoints counts the endpoints of a Service.
func countEndpoints(service *state.Service) (ready, all int) {
	for _, slice := range service.Slices {
		all += len(slice.Endpoints)
		for i := range slice.Endpoints {
			if slice.Endpoints[i].Ready {
				ready++
			}
		}
	}
	return ready, all
}

// label is the label under which an endpoint is found below its Service: the hostname,
// else the Pod's name if asked for and no longer than a label, else the address.
func (n naming) label(e *model.Endpoint) string {
	if e.Hostname() != "" {
		return e.Hostname()
	}
	if n.podNames && e.TargetPod() != "" && len(e.TargetPod()) <= 63 {
		return e.TargetPod()
	}
	return dashed(e.Addr)
}

// dashed writes an address as a label. A trailing dash, which no label may have, gets
// the 0 that "::" stands for.
func dashed(addr netip.Addr) string {
	addr = addr.Unmap()
	if addr.Is4() {
		return strings.ReplaceAll(addr.String(), ".", "-")
	}
	label := strings.ReplaceAll(addr.String(), ":", "-")
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}

// serviceLabels are the labels of a Service's name left of the zone.
func serviceLabels(key model.ServiceKey) string { return key.Name + "." + key.Namespace + ".svc" }

// member is a ready endpoint under its name.
type member struct {
	addr netip.Addr
	// label is the name below the Service: one label, or two with the cluster's.
	label string
	// host and cluster are its parts; cluster is empty for this cluster's own.
	host, cluster string
	// target is its full name in the primary zone.
	target string
	// topology is the zone in which it runs.
	topology string
	ports    []model.EndpointPort
}

// members are the ready endpoints of a Service, derived once and kept with it.
type members struct {
	naming naming
	all    []member
	// v4 and v6 are the distinct addresses of each family.
	v4, v6 []netip.Addr
	// byHost has the places in all by lower-cased host; nil if there are few.
	byHost map[string][]int32
}

// few is a number of members among which one is found soon without an index.
const few = 16

// membersOf gives the members of a Service. Two zones with different namings would each
// derive their own.
func (c *config) membersOf(service *state.Service) *members {
	if kept, _ := service.Memo().(*members); kept != nil && kept.naming == c.naming {
		return kept
	}
	made := c.deriveMembers(service)
	service.SetMemo(made)
	return made
}

func (c *config) deriveMembers(service *state.Service) *members {
	count, _ := countEndpoints(service)
	m := &members{naming: c.naming, all: make([]member, 0, count)}
	suffix := "." + below(serviceLabels(service.Service.Key), c.naming.primary)
	eachReady(service, func(slice *model.EndpointSlice, e *model.Endpoint) bool {
		host := c.naming.label(e)
		label := host
		if slice.Cluster != "" {
			label += "." + slice.Cluster
		}
		m.all = append(m.all, member{
			addr: e.Addr.Unmap(), host: host, cluster: slice.Cluster, label: label, target: label + suffix, topology: e.Zone(), ports: slice.Ports,
		})
		return true
	})
	if c.stock && c.zonal {
		m.takeStockTopologies(service)
	}
	m.v4, m.v6 = distinctAddrs(m.all)
	if len(m.all) > few {
		m.byHost = make(map[string][]int32, len(m.all))
		for i := range m.all {
			host := strings.ToLower(m.all[i].host)
			m.byHost[host] = append(m.byHost[host], int32(i))
		}
	}
	return m
}

// distinctAddrs sorts the addresses by family, each once, in the order of the members.
func distinctAddrs(all []member) (v4, v6 []netip.Addr) {
	seen := make(map[netip.Addr]struct{}, len(all))
	for i := range all {
		addr := all[i].addr
		if _, twice := seen[addr]; twice {
			continue
		}
		seen[addr] = struct{}{}
		if addr.Is4() {
			v4 = append(v4, addr)
		} else {
			v6 = append(v6, addr)
		}
	}
	return v4, v6
}

// pick calls visit for each member that a place selects. Its strings are lower case.
func (m *members) pick(p *place, visit func(*member)) {
	if p.prefer && !slices.ContainsFunc(m.all, func(e member) bool { return e.in(p.topology) }) {
		widened := *p
		widened.topology = ""
		p = &widened
	}
	if p.endpoint != "" && m.byHost != nil {
		for _, i := range m.byHost[p.endpoint] {
			m.all[i].visitIf(p, visit)
		}
		return
	}
	for i := range m.all {
		m.all[i].visitIf(p, visit)
	}
}

// visitIf calls visit if a place selects the member.
func (e *member) visitIf(p *place, visit func(*member)) {
	if e.named(p) && (p.topology == "" || e.in(p.topology)) {
		visit(e)
	}
}

// named tells whether a member has the name that a place selects.
func (e *member) named(p *place) bool {
	return (p.endpoint == "" || strings.EqualFold(e.host, p.endpoint)) && (p.cluster == "" || strings.EqualFold(e.cluster, p.cluster))
}

// in tells whether a member runs in a topology zone; names do not tell case apart.
func (e *member) in(topology string) bool { return strings.EqualFold(e.topology, topology) }

// admits tells whether a port is one that a place selects.
func (s *selector) admits(name string, protocol model.Protocol) bool {
	return (s.port == "" || strings.EqualFold(name, s.port)) &&
		(s.protocol == "" || strings.EqualFold(protocol.String(), s.protocol))
}

// anyEndpoint tells whether a place selects an endpoint.
func (c *config) anyEndpoint(p *place) bool {
	found := false
	c.membersOf(p.service).pick(p, func(*member) { found = true })
	return found
}

// anyPort tells whether a place selects a port that has a name, and with it a record.
func (c *config) anyPort(p *place) bool {
	if !p.service.Service.Headless {
		return slices.ContainsFunc(p.service.Service.Ports, func(port model.ServicePort) bool {
			return c.owns(port.Name) && p.admits(port.Name, port.Protocol)
		})
	}
	found := false
	c.membersOf(p.service).pick(p, func(e *member) { found = found || c.listens(e, p) })
	return found
}

// listens tells whether a member has a port that a place selects.
func (c *config) listens(e *member, p *place) bool {
	return slices.ContainsFunc(e.ports, func(port model.EndpointPort) bool {
		return c.owns(port.Name) && p.admits(port.Name, port.Protocol)
	})
}

// owns tells whether a port of that name has a name of its own in the zone. For the stock
// plugin an empty label stands for every port.
func (c *config) owns(port string) bool { return port != "" || c.stock }
