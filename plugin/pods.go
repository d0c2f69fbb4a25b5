package mooring

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// locatePod knows the names of Pods, 1-2-3-4.NAMESPACE.pod.
func (c *config) locatePod(snap view, n *name) place {
	if n.count == 1 {
		return place{kind: emptyNonTerminal}
	}
	if why := c.hidden(snap, n.labels[1]); why != unexplained {
		return place{why: why}
	}
	switch {
	case c.pods == podsDisabled:
		return place{why: podsAreOff}
	case n.count == 2:
		return place{kind: emptyNonTerminal}
	case n.count > 3 && !c.podSyntax(n):
		return place{}
	}
	addr, valid := addrOfLabel(n.labels[2])
	if !valid {
		return place{}
	}
	if c.pods == podsVerified && !podAt(snap.local, addr, n.labels[1]) {
		return place{why: noSuchPod}
	}
	return place{kind: podName, addr: addr}
}

// podSyntax tells whether a name of more labels than a Pod's still is one, as it is for
// the stock plugin with one or two labels in front.
func (c *config) podSyntax(n *name) bool { return c.stock && n.rest == "" }

// addrOfLabel reads the dashed form of an address.
func addrOfLabel(label string) (netip.Addr, bool) {
	separator := ":"
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		separator = "."
	}
	addr, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator))
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

// podAt tells whether a Pod of a namespace has the address.
func podAt(snap *state.Snapshot, addr netip.Addr, namespace string) bool {
	use := snap.Address(addr)
	return use != nil && slices.ContainsFunc(use.Pods, func(pod *model.Pod) bool {
		return pod.Namespace == namespace
	})
}

// namespaceAt gives the namespace of the Pods at an address; empty if there is none, or
// if Pods of several namespaces share it, as on a node's own network.
func namespaceAt(snap *state.Snapshot, addr netip.Addr) string {
	use := snap.Address(addr)
	if use == nil || len(use.Pods) == 0 {
		return ""
	}
	namespace := use.Pods[0].Namespace
	for _, pod := range use.Pods {
		if pod.Namespace != namespace {
			return ""
		}
	}
	return namespace
}
