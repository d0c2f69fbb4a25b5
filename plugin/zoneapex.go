package mooring

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// The SOA record's times, those of the stock plugin, in seconds.
const (
	soaRefresh = 7200
	soaRetry   = 1800
	soaExpire  = 86400
	soaMaxTTL  = 300
)

// versionTTL is the TTL of the record that names the specification's version.
const versionTTL = 28800

// specification is the version of the Kubernetes DNS specification that is followed.
const specification = "1.1.0"

// soa is the zone's SOA record. Its owner and names keep the client's spelling of the
// zone. Its minimum is the time for which a negative answer may be cached (RFC 2308).
func (c *config) soa(snap view, n *name, ttl uint32) *dns.SOA {
	mname, rname := n.zone.mname, n.zone.rname
	if n.zoneText != n.zone.name {
		mname, rname = below("ns.dns", n.zoneText), below("hostmaster", n.zoneText)
	}
	header := c.header(n.zoneText, dns.TypeSOA)
	header.Ttl = min(ttl, soaMaxTTL)
	return &dns.SOA{
		Hdr:     header,
		Ns:      mname,
		Mbox:    rname,
		Serial:  serial(snap.ChangedAt),
		Refresh: soaRefresh,
		Retry:   soaRetry,
		Expire:  soaExpire,
		Minttl:  ttl,
	}
}

// serial is the time of the last change in seconds, 0 before the first one.
func serial(changed time.Time) uint32 {
	if changed.IsZero() {
		return 0
	}
	return uint32(changed.Unix())
}

// nameserver is one name and address of this server.
type nameserver struct {
	name string
	addr netip.Addr
}

// nameservers are the names of the Services that have this server as an endpoint, in
// the zone as the client spelled it; or ns.dns with the addresses we are bound to, if
// there is none. The Services of this cluster have no names in a reverse or multicluster
// zone, so the primary zone's are given there.
func (c *config) nameservers(snap view, n *name) (list []nameserver) {
	zone := n.zoneText
	if (n.zone.reverse || n.zone.multicluster) && !c.stock {
		zone = c.naming.primary
	}
	for _, local := range c.localAddrs {
		use := snap.local.Address(local)
		if use == nil {
			continue
		}
		for _, key := range use.Services {
			if service := snap.local.Service(key); service != nil {
				list = append(list, c.serviceNameservers(service, local, zone)...)
			}
		}
	}
	if list != nil {
		return c.distinct(list)
	}
	if c.stock && c.stockKnowsItself(snap) {
		return nil
	}
	for _, local := range c.localAddrs {
		list = append(list, nameserver{below("ns.dns", n.zoneText), local})
	}
	return list
}

// distinct leaves out what is said twice (RFC 2181 section 5); the stock plugin does not.
func (c *config) distinct(list []nameserver) []nameserver {
	if c.stock {
		return list
	}
	seen := make(map[nameserver]struct{}, len(list))
	return slices.DeleteFunc(list, func(server nameserver) bool {
		_, twice := seen[server]
		seen[server] = struct{}{}
		return twice
	})
}

// serviceNameservers are the names and addresses of a Service that has this server among
// the ready endpoints of a slice; of a headless one, those of the slice.
func (c *config) serviceNameservers(service *state.Service, local netip.Addr, zone string) (list []nameserver) {
	labels := serviceLabels(service.Service.Key)
	for _, slice := range service.Slices {
		if !readyAt(slice, local) {
			continue
		}
		for _, ip := range service.Service.ClusterIPs {
			list = append(list, nameserver{below(labels, zone), ip.Unmap()})
		}
		if service.Service.Headless {
			list = append(list, c.sliceNameservers(slice, labels, zone)...)
		}
	}
	return list
}

func (c *config) sliceNameservers(slice *model.EndpointSlice, labels, zone string) (list []nameserver) {
	for i := range slice.Endpoints {
		if e := &slice.Endpoints[i]; e.Ready {
			list = append(list, nameserver{below(c.naming.label(e)+"."+labels, zone), e.Addr.Unmap()})
		}
	}
	return list
}

func readyAt(slice *model.EndpointSlice, addr netip.Addr) bool {
	return slices.ContainsFunc(slice.Endpoints, func(e model.Endpoint) bool { return e.Ready && e.Addr.Unmap() == addr })
}

// ns gives the zone's NS records and the addresses of their targets.
func (c *config) ns(snap view, n *name) (records, extra []dns.RR) {
	named := make(map[string]struct{})
	for _, server := range c.nameservers(snap, n) {
		extra = append(extra, c.addressRecord(server.name, server.addr))
		if _, twice := named[server.name]; twice {
			continue
		}
		named[server.name] = struct{}{}
		records = append(records, &dns.NS{Hdr: c.header(n.zoneText, dns.TypeNS), Ns: server.name})
	}
	return records, extra
}

// versionRecord names the version of the specification.
func (c *config) versionRecord(owner string) dns.RR {
	header := c.header(owner, dns.TypeTXT)
	header.Ttl = versionTTL
	return &dns.TXT{Hdr: header, Txt: []string{specification}}
}
