package scenarios

import (
	"net/netip"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

// host is a machine or a pod. Its node is the one that it runs on, or is.
type host struct {
	name, node string
	v4, v6     netip.Addr
}

func newHost(name, node, v4, v6 string) host {
	return host{name, node, netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
}

func (h host) addr(ipv6 bool) netip.Addr {
	if ipv6 {
		return h.v6
	}
	return h.v4
}

// The hosts of every scenario: the node whose proxy is asked, with a pod that asks and one
// that answers; another node with a pod that answers; a client that is no node.
var (
	theNode   = newHost("node", "node-1", "172.30.0.11", "fd00:172:30::11")
	podHost   = newHost("pod", "node-1", "10.244.1.2", "fd00:10:244:1::2")
	localPod  = newHost("local", "node-1", "10.244.1.3", "fd00:10:244:1::3")
	otherNode = newHost("other", "node-2", "172.30.0.12", "fd00:172:30::12")
	remotePod = newHost("remote", "node-2", "10.244.2.2", "fd00:10:244:2::2")
	outsider  = newHost("outside", "", "172.30.0.100", "fd00:172:30::100")
	pods      = []host{podHost, localPod, remotePod}
)

// zone is the zone of theNode.
const zone = "here"

// endpointPort is where pods listen.
const endpointPort = 8080

var (
	serviceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}
	podCIDRs     = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}
	// balancerCIDRs have the addresses of load balancers and external addresses.
	balancerCIDRs = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:10::/64")}
)

func hostOf(source oracle.Source) host {
	return map[oracle.Source]host{oracle.Pod: podHost, oracle.Host: theNode, oracle.Outside: outsider}[source]
}

func (w way) addressOf(source oracle.Source) netip.Addr { return hostOf(source).addr(w.ipv6) }

// nameOf gives the name of the pod behind an endpoint, or the endpoint as it is.
func nameOf(endpoint netip.AddrPort) string {
	for _, h := range pods {
		if endpoint.Port() == endpointPort && (endpoint.Addr() == h.v4 || endpoint.Addr() == h.v6) {
			return h.name
		}
	}
	return endpoint.String()
}

// context is what the planner of theNode is told.
func (c configuration) context(marks *plan.Marks) plan.Context {
	context := plan.Context{
		Place:         policy.Place{Node: theNode.node, Zone: zone},
		NodeAddresses: []netip.Addr{theNode.v4, theNode.v6},
		Scheduler:     "rr", ExternalIPs: true, Marks: marks,
	}
	if c.knowsPods {
		context.PodCIDRs = podCIDRs
	}
	return context
}

// plan gives the whole plan for some Services.
func (c configuration) plan(marks *plan.Marks, entries ...*state.Service) plan.Plan {
	context := c.context(marks)
	store := state.NewStore()
	store.Update(time.Time{}, func(t *state.Txn) { t.SetServiceCIDRs(serviceCIDRs) })
	assembly := plan.NewAssembly()
	assembly.Replace(model.ServiceKey{}, context.Cluster(store.Load()))
	for _, entry := range entries {
		assembly.Replace(entry.Service.Key, context.Service(entry), entry.Service.ClusterIPs...)
	}
	return assembly.Plan()
}
