package reconcile

import "net/netip"

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
