package takeover

import (
	"slices"
	"strings"

	"github.com/mooring-project/mooring/internal/model"
)

// Names that kube-proxy 1.37 and its predecessors of some years have used
// (pkg/proxy/{iptables,ipvs,nftables}). The kubelet's KUBE-FIREWALL, KUBE-KUBELET-CANARY and
// KUBE-IPTABLES-HINT, and the chains of kube-router's network policies, are not among them.

// TableName is the name of kube-proxy's tables in mode nftables, of families ip and ip6.
const TableName = "kube-proxy"

// entries are the chains that kube-proxy has PREROUTING and its like lead to.
var entries = map[string]bool{
	"KUBE-SERVICES": true, "KUBE-EXTERNAL-SERVICES": true, "KUBE-NODEPORTS": true, "KUBE-NODE-PORT": true,
	"KUBE-FORWARD": true, "KUBE-PROXY-FIREWALL": true, "KUBE-POSTROUTING": true,
	"KUBE-IPVS-FILTER": true, "KUBE-IPVS-OUT-FILTER": true,
}

var others = []string{"KUBE-MARK-MASQ", "KUBE-LOAD-BALANCER", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-PROXY-CANARY"}

// IsChain tells whether a chain of that name is kube-proxy's.
func IsChain(name string) bool {
	return entries[name] || slices.Contains(others, name) || hashed(name)
}

// hashed tells whether a chain is one that mode iptables has for a Service or an endpoint: the end of
// its name is a hash of 16 letters.
func hashed(name string) bool {
	for _, prefix := range []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-", "KUBE-XLB-"} {
		if rest, is := strings.CutPrefix(name, prefix); is && len(rest) == 16 {
			return true
		}
	}
	return false
}

// longestSet is the longest name of an ipset (IPSET_MAXNAMELEN without the zero).
const longestSet = 31

var sets = []string{
	"KUBE-LOOP-BACK", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL",
	"KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL", "KUBE-LOAD-BALANCER-FW", "KUBE-LOAD-BALANCER-SOURCE-IP",
	"KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP",
	"KUBE-NODE-PORT-LOCAL-UDP", "KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
	"KUBE-HEALTH-CHECK-NODE-PORT", "KUBE-IPVS-IPS",
}

// IsSet tells whether an ipset of that name is kube-proxy's. Those of IPv6 have a 6 in their names.
func IsSet(name string) bool {
	return slices.ContainsFunc(sets, func(set string) bool {
		six := "KUBE-6-" + strings.TrimPrefix(set, "KUBE-")
		return name == set || name == six[:min(len(six), longestSet)]
	})
}

// NodePortSets are the ipsets whose ports are NodePorts, each with its protocol.
var NodePortSets = map[string]model.Protocol{
	"KUBE-NODE-PORT-TCP": model.TCP, "KUBE-NODE-PORT-UDP": model.UDP, "KUBE-NODE-PORT-SCTP-HASH": model.SCTP,
	"KUBE-6-NODE-PORT-TCP": model.TCP, "KUBE-6-NODE-PORT-UDP": model.UDP, "KUBE-6-NODE-PORT-SCTP-HASH": model.SCTP,
}
