package mooring

import (
	"net/netip"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnsutil"
)

// Defaults of the directives, those of the stock plugin.
const (
	defaultTTL            = 5
	defaultStartupTimeout = 5 * time.Second
)

// config is what the answers depend on besides the snapshot and the question. It never
// changes once a server runs, and is safe for concurrent use.
type config struct {
	zones []zone
	// primary is the first zone that is not a reverse zone: PTR records point into it.
	primary string
	// namespaces, when not empty, are the only ones that exist for clients.
	namespaces map[string]struct{}
	ttl        uint32
	// fallthroughZones are those whose missing names are left to the next plugin.
	fallthroughZones []string
	// localAddrs are the addresses this server is bound to, loopback left out.
	localAddrs []netip.Addr
}

// zone is one zone we are authoritative for.
type zone struct {
	// name is lower case and ends in a dot.
	name string
	// mname and rname are the SOA record's for a question in lower case.
	mname, rname string
	reverse      bool
}

func newZone(origin string) zone {
	origin = strings.ToLower(origin)
	return zone{
		name:    origin,
		mname:   below("ns.dns", origin),
		rname:   below("hostmaster", origin),
		reverse: dnsutil.IsReverse("."+origin) > 0,
	}
}

// below puts labels in front of a zone, which may be the root.
func below(labels, zone string) string {
	if zone == "." {
		return labels + "."
	}
	return labels + "." + zone
}

// exposes tells whether a namespace is one that clients may see by configuration.
func (c *config) exposes(namespace string) bool {
	if len(c.namespaces) == 0 {
		return true
	}
	_, listed := c.namespaces[namespace]
	return listed
}

// fallsThrough tells whether a lower-cased name that does not exist is left to the next
// plugin.
func (c *config) fallsThrough(full string) bool {
	for _, zone := range c.fallthroughZones {
		if inZone(full, zone) {
			return true
		}
	}
	return false
}
