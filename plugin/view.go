package mooring

import "github.com/mooring-project/mooring/internal/state"

// view is what one answer is made from: the snapshot with the Services of the zone asked
// for, and that of this cluster, which has the Pods and this server itself. Only in a
// multicluster zone are they two.
type view struct {
	*state.Snapshot
	local *state.Snapshot
}

// view gives the newest snapshots for a zone.
func (m *Mooring) view(z *zone) view {
	if z.multicluster {
		return view{m.Imports.Load(), m.Store.Load()}
	}
	return m.localView()
}

// localView is the view of this cluster's own zones.
func (m *Mooring) localView() view {
	local := m.Store.Load()
	return view{local, local}
}

// synced tells whether everything has been listed that a verdict may depend on, now or in the
// past that the snapshot is from.
func (v view) synced() bool { return v.Usable() && v.local.Usable() }
