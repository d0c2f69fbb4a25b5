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
	// maxTTL is the largest TTL that can be configured.
	maxTTL = 3600
)

// config is what the answers depend on besides the snapshot and the question. It never
// changes once a server runs, and is safe for concurrent use.
type config struct {
	zones []zone
	// naming says how endpoints are called.
	naming naming
	// namespaces, when not empty, are the only ones that exist for clients.
	namespaces map[string]struct{}
	ttl        uint32
	// negativeTTL is how long a negative answer may be cached.
	negativeTTL uint32
	pods        podMode
	// ignoreEmpty hides ClusterIP Services without a ready endpoint.
	ignoreEmpty bool
	// zonal turns on the names ZONE.pin._zone.SERVICE and ZONE.prefer._zone.SERVICE.
	zonal bool
	// stock gives the answers of the stock plugin where it is wrong.
	stock bool
	// fallthroughZones are those whose missing names are left to the next plugin.
	fallthroughZones []string
	// localAddrs are the addresses this server is bound to, loopback left out.
	localAddrs []netip.Addr
}

// naming is what the names of endpoints depend on. It is comparable, to tell whether
// names made earlier still hold.
type naming struct {
	// podNames takes the Pod's name for an endpoint without hostname.
	podNames bool
	// primary is the first zone that is not a reverse zone: PTR records point into it.
	primary string
}

// podMode is the value of the property pods.
type podMode uint8

const (
	podsDisabled podMode = iota
	podsInsecure
	podsVerified
)

// zone is one zone we are authoritative for.
type zone struct {
	// name is lower case and ends in a dot.
	name string
	// mname and rname are the SOA record's for a question in lower case.
	mname, rname string
	// reverse is true below in-addr.arpa and ip6.arpa.
	reverse bool
	// multicluster is true if the zone holds the Services of a cluster set.
	multicluster bool
	// holdsReverse is true if addresses can be asked for in it, as in the root.
	holdsReverse bool
}

func newZone(origin string) zone {
	origin = strings.ToLower(origin)
	reverse := dnsutil.IsReverse("."+origin) > 0
	return zone{
		name:         origin,
		mname:        below("ns.dns", origin),
		rname:        below("hostmaster", origin),
		reverse:      reverse,
		holdsReverse: reverse || origin == "." || origin == "arpa.",
	}
}

// below puts labels in front of a zone, which may be the root.
func below(labels, zone string) string {
	if zone == "." {
		return labels + "."
	}
	return labels + "." + zone
}

// exposes tells whether clients may see a namespace, by configuration and because it
// exists.
func (c *config) exposes(snap view, namespace string) bool {
	return c.lists(namespace) && snap.Namespace(namespace) != nil
}

// lists tells whether the property namespaces admits a namespace.
func (c *config) lists(namespace string) bool {
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
