package reconcile

import (
	"slices"

	"github.com/mooring-project/mooring/internal/state"
)

// Recheck has the loop ask for the node's addresses again.
func (r *Reconciler) Recheck() {
	select {
	case r.recheck <- struct{}{}:
	default: // it will do so anyway
	}
}

// followNode has everything planned anew if the Node object says something new of this node.
func (r *Reconciler) followNode(snapshot *state.Snapshot) {
	if place := r.placeIn(snapshot); place != r.context.Place {
		r.context.Place, r.planned = place, nil
	}
	r.followAddresses(snapshot)
	r.followPodCIDRs(snapshot)
}

func (r *Reconciler) followAddresses(snapshot *state.Snapshot) {
	if r.options.NodeAddresses == nil {
		return
	}
	addresses := r.options.NodeAddresses(snapshot.Node(r.context.Place.Node))
	if !slices.Equal(r.context.NodeAddresses, addresses) {
		r.options.Logger.Info("NodePorts", "addresses", addresses)
		r.context.NodeAddresses, r.planned = addresses, nil
	}
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
