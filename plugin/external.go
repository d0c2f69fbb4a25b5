package mooring

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/etcd/msg"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// stand-in suffixes by which k8s_external tells headless names apart.
const (
	endpointKey     = "endpoint"
	portProtocolKey = "port.protocol"
)

// External implements external.Externaler: the external addresses of a Service, or the
// endpoints of a headless one.
func (m *Mooring) External(req request.Request, headless bool) ([]msg.Service, int) {
	snap := m.localView()
	if req.QType() == dns.TypePTR {
		if prefix, reverse := prefixOfName(req.Name()); reverse && prefix.IsSingleIP() {
			return m.externalReverse(snap, prefix.Addr())
		}
	}
	outer := []zone{newZone(req.Zone)}
	n, inside := parseName(outer, req.Name())
	if !inside || n.count == 0 {
		return nil, dns.RcodeServerFailure
	}
	if !m.exposes(snap, n.labels[0]) {
		return nil, dns.RcodeNameError
	}
	if n.count == 1 {
		return nil, dns.RcodeSuccess
	}
	p, found := externalPlace(snap, &n)
	if !found {
		return nil, dns.RcodeNameError
	}
	services := m.externalServices(&p, n.zone.name, headless)
	switch {
	case len(services) == 0:
		return nil, dns.RcodeNameError
	case req.QType() == dns.TypePTR:
		return nil, dns.RcodeSuccess
	}
	return services, dns.RcodeSuccess
}

// externalPlace finds SERVICE.NAMESPACE, ENDPOINT.SERVICE.NAMESPACE and
// _PORT._PROTOCOL.SERVICE.NAMESPACE.
func externalPlace(snap view, n *name) (p place, found bool) {
	p.service = snap.Service(model.ServiceKey{Namespace: n.labels[0], Name: n.labels[1]})
	switch n.count {
	case 2:
	case 3:
		p.endpoint = strings.TrimPrefix(n.labels[2], "_")
	case 4:
		p.protocol, p.port = strings.TrimPrefix(n.labels[2], "_"), strings.TrimPrefix(n.labels[3], "_")
	default:
		return place{}, false
	}
	return p, p.service != nil
}

func (m *Mooring) externalServices(p *place, zone string, headless bool) (list []msg.Service) {
	service := p.service.Service
	base := msg.Path(zone, "c") + "/" + service.Key.Namespace + "/" + service.Key.Name
	outside := externalAddrs(service)
	if headless && len(outside) == 0 && (service.Headless || p.endpoint != "") {
		m.membersOf(p.service).pick(p, func(e *member) {
			for _, port := range portsOrNone(e.ports) {
				if p.admits(port.Name, port.Protocol) {
					list = append(list, m.externalService(base+"/"+e.label, e.addr, port.Port))
				}
			}
		})
		return list
	}
	for _, addr := range outside {
		for _, port := range service.Ports {
			if p.admits(port.Name, port.Protocol) {
				list = append(list, m.externalService(base, addr, port.Port))
			}
		}
	}
	return list
}

// portsOrNone gives one port without name or number for an endpoint that lists none.
func portsOrNone(ports []model.EndpointPort) []model.EndpointPort {
	if len(ports) == 0 {
		return make([]model.EndpointPort, 1)
	}
	return ports
}

func (m *Mooring) externalService(key string, addr netip.Addr, port uint16) msg.Service {
	return msg.Service{Key: key, Host: addr.Unmap().String(), Port: int(port), TTL: m.ttl}
}

func externalAddrs(service *model.Service) []netip.Addr {
	return slices.Concat(service.ExternalIPs, service.LoadBalancerIPs)
}

func (m *Mooring) externalReverse(snap view, addr netip.Addr) (list []msg.Service, rcode int) {
	if use := snap.Address(addr); use != nil {
		for _, key := range use.Services {
			service := m.pointedTo(snap, key)
			if service != nil && hasAddr(externalAddrs(service.Service), addr) {
				list = append(list, msg.Service{Host: key.Name + "." + key.Namespace, TTL: m.ttl})
			}
		}
	}
	if len(list) == 0 {
		return nil, dns.RcodeNameError
	}
	return list, dns.RcodeSuccess
}

// ExternalAddress implements external.Externaler: the external addresses of the Services
// that have this server as an endpoint, or the addresses we are bound to. The caller
// changes the records.
func (m *Mooring) ExternalAddress(req request.Request, headless bool) (records []dns.RR) {
	snap := m.Store.Load()
	known := false
	for _, local := range m.localAddrs {
		use := snap.Address(local)
		if use == nil {
			continue
		}
		for _, key := range use.Services {
			if service := snap.Service(key); service != nil && len(m.labelsAt(service, local)) > 0 {
				known = true
				records = append(records, m.externalNameservers(service, req.Zone, headless)...)
			}
		}
	}
	if known {
		return records
	}
	for _, local := range m.localAddrs {
		records = append(records, m.addressRecord(below("ns.dns", req.Zone), local))
	}
	return records
}

func (m *Mooring) externalNameservers(service *state.Service, zone string, headless bool) (records []dns.RR) {
	owner := below(service.Service.Key.Name+"."+service.Service.Key.Namespace, zone)
	if headless && service.Service.Headless {
		for _, e := range m.membersOf(service).all {
			records = append(records, m.addressRecord(e.label+"."+owner, e.addr))
		}
		return records
	}
	for _, addr := range externalAddrs(service.Service) {
		records = append(records, m.addressRecord(owner, addr.Unmap()))
	}
	return records
}

// ExternalServices implements external.Externaler: everything that External gives, for a
// zone transfer; headless ones by the name they are grouped under.
func (m *Mooring) ExternalServices(zone string, headless bool) (services []msg.Service, grouped map[string][]msg.Service) {
	grouped = make(map[string][]msg.Service)
	root := msg.Path(zone, "c")
	for _, entry := range m.exposedServices(m.localView()) {
		service := entry.Service
		base := root + "/" + service.Key.Namespace + "/" + service.Key.Name
		outside := externalAddrs(service)
		if headless && len(outside) == 0 && service.Headless {
			m.groupHeadless(grouped, entry, base)
			continue
		}
		for _, addr := range outside {
			for _, port := range service.Ports {
				s := m.externalService(base, addr, port.Port)
				services = append(services, s)
				s.Key, s.TargetStrip = portKey(base, port.Name, port.Protocol), 2
				services = append(services, s)
			}
		}
	}
	return services, grouped
}

func (m *Mooring) groupHeadless(grouped map[string][]msg.Service, entry *state.Service, base string) {
	for _, e := range m.membersOf(entry).all {
		for _, port := range portsOrNone(e.ports) {
			s := m.externalService(base+"/"+e.label, e.addr, port.Port)
			grouped[base+"/"+endpointKey] = append(grouped[base+"/"+endpointKey], s)
			if port.Name == "" {
				continue
			}
			s.Host, s.Key = msg.Domain(s.Key), portKey(base, port.Name, port.Protocol)
			grouped[s.Key+"/"+portProtocolKey] = append(grouped[s.Key+"/"+portProtocolKey], s)
		}
	}
}

func portKey(base, port string, protocol model.Protocol) string {
	return base + "/_" + strings.ToLower(protocol.String()) + "/_" + strings.ToLower(port)
}

// ExternalSerial implements external.Externaler.
func (m *Mooring) ExternalSerial(string) uint32 { return serial(m.Store.Load().ChangedAt) }
