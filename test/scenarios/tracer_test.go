package scenarios

import (
	"slices"

	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

// tracer follows the first packet of a connection through what a plan says, in the order of
// the kernel's hooks: what is refused and dropped, which virtual server takes the packet,
// which of its real servers may get it, and what source they see.
type tracer struct {
	plan.Plan
	masqueradeAll bool
}

// trace gives what becomes of a connection.
func (t tracer) trace(q question) oracle.Outcome {
	to := plan.Key{Protocol: q.protocol, Addr: q.at, Port: q.port}
	pod, local := t.inPods(q), q.From == oracle.Host
	switch {
	case t.has(plan.Firewall, to) && !t.admitted(to, q):
		return oracle.Outcome{Fate: oracle.Dropped}
	case t.has(plan.Drop, to):
		return oracle.Outcome{Fate: oracle.Dropped}
	case !local && !pod && t.has(plan.DropOutside, to):
		return oracle.Outcome{Fate: oracle.Dropped}
	case t.has(plan.Reject, to):
		return oracle.Outcome{Fate: oracle.Refused}
	}
	delivered := t.has(plan.Divert, to) || q.at == theNode.addr(q.ipv6)
	if !delivered && t.covered(plan.ServiceCIDR, q) {
		return oracle.Outcome{Fate: oracle.Refused}
	}
	if !delivered && !local {
		return oracle.Outcome{Fate: oracle.Lost}
	}
	if split, has := t.Plan[kind(plan.Split, to)]; has && (local || pod) {
		// The node's own connections to a second view get the node's address.
		return t.balance(plan.MarkKey(plan.VirtualServer, split.Mark, q.ipv6), q, local)
	}
	return t.balance(kind(plan.VirtualServer, to), q, t.masquerades(to, q))
}

// masquerades tells whether a connection to the virtual server of an address is marked to get
// the node's address.
func (t tracer) masquerades(to plan.Key, q question) bool {
	if t.has(plan.Masquerade, to) {
		return true
	}
	if !t.has(plan.Divert, to) || t.has(plan.KeepSource, to) {
		return false
	}
	return t.masqueradeAll || t.knowsPods(q) && !t.inPods(q)
}

// balance gives the real servers of a virtual server that take new connections. Without any,
// IPVS refuses.
func (t tracer) balance(server plan.Key, q question, masqueraded bool) oracle.Outcome {
	if _, exists := t.Plan[server]; !exists {
		return oracle.Outcome{Fate: oracle.Lost}
	}
	var o oracle.Outcome
	for key, value := range t.Plan {
		if key.Kind != plan.RealServer || key.VirtualServerKey() != server || value.Weight == 0 {
			continue
		}
		itself := key.Endpoint.Addr() == q.Addr && t.hairpins(key)
		o.Answers = append(o.Answers, oracle.Answer{Endpoint: key.Endpoint, Masqueraded: masqueraded || itself})
	}
	if len(o.Answers) == 0 {
		return oracle.Outcome{Fate: oracle.Refused}
	}
	slices.SortFunc(o.Answers, func(a, b oracle.Answer) int { return a.Endpoint.Compare(b.Endpoint) })
	return o
}

func (t tracer) hairpins(real plan.Key) bool {
	for key := range t.Plan {
		if key.Kind == plan.Hairpin && key.Endpoint.Addr() == real.Endpoint.Addr() {
			return true
		}
	}
	return false
}

func (t tracer) admitted(to plan.Key, q question) bool {
	for key := range t.Plan {
		if key.Kind == plan.FirewallAllow && key.Addr == to.Addr && key.Protocol == to.Protocol && key.Port == to.Port &&
			key.Prefix().Contains(q.Addr) {
			return true
		}
	}
	return false
}

func (t tracer) inPods(q question) bool {
	for key := range t.Plan {
		if key.Kind == plan.PodCIDR && key.Prefix().Contains(q.Addr) {
			return true
		}
	}
	return false
}

func (t tracer) knowsPods(q question) bool {
	for key := range t.Plan {
		if key.Kind == plan.PodCIDR && key.IPv6() == q.ipv6 {
			return true
		}
	}
	return false
}

// covered tells whether the destination is in a prefix of a kind.
func (t tracer) covered(k plan.Kind, q question) bool {
	for key := range t.Plan {
		if key.Kind == k && key.Prefix().Contains(q.at) {
			return true
		}
	}
	return false
}

func (t tracer) has(k plan.Kind, to plan.Key) bool {
	_, has := t.Plan[kind(k, to)]
	return has
}

func kind(k plan.Kind, to plan.Key) plan.Key {
	to.Kind = k
	return to
}
