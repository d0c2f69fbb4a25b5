package reconcile

import (
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/internal/state"
)

// addressUpdate is the whole list of the node's addresses that serve NodePorts.
type addressUpdate []netip.Addr

// SetNodeAddresses tells the loop the addresses on which the node serves NodePorts from now
// on. It may be called from one goroutine besides Run's, before or while Run runs; of
// several updates that the loop has not seen yet only the last one counts.
func (r *Reconciler) SetNodeAddresses(addresses []netip.Addr) {
	for {
		select {
		case r.addresses <- addresses:
			return
		case <-r.addresses:
		}
	}
}

// followNode has everything planned anew if the Node object says something new of this node.
func (r *Reconciler) followNode(snapshot *state.Snapshot) {
	if place := r.placeIn(snapshot); place != r.context.Place {
		r.context.Place, r.planned = place, nil
	}
	r.followPodCIDRs(snapshot)
}

// followPodCIDRs takes the pods' addresses from the Node object, if it is there: one that is
// gone for a moment changes nothing.
func (r *Reconciler) followPodCIDRs(snapshot *state.Snapshot) {
	node := snapshot.Node(r.context.Place.Node)
	if !r.options.NodePodCIDRs || node == nil || slices.Equal(r.context.PodCIDRs, node.PodCIDRs) {
		return
	}
	r.options.Logger.Info("pods of this node", "cidrs", node.PodCIDRs)
	r.context.PodCIDRs, r.planned = node.PodCIDRs, nil
}
