package reconcile

import (
	"net/netip"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// A restored snapshot is of an earlier time, and what the kernel has kept is at least as fresh. So
// until the first real one only Services of which the kernel holds nothing are put into it, as
// after the start of the machine; what was found there is neither changed nor deleted.

// found is what the kernel held before anything was planned.
type found struct {
	keys   map[plan.Key]struct{}
	places map[place]struct{}
}

// place is where clients find a Service.
type place struct {
	addr     netip.Addr
	protocol model.Protocol
	port     uint16
}

// placeOf gives the place that an object is about, if it is about one.
func placeOf(key plan.Key) (place, bool) {
	return place{key.Addr, key.Protocol, key.Port}, key.Port != 0 && key.Kind != plan.Relay
}

func newFound(observed plan.Plan) *found {
	f := &found{make(map[plan.Key]struct{}), make(map[place]struct{})}
	for key := range observed {
		f.keys[key] = struct{}{}
		if at, is := placeOf(key); is {
			f.places[at] = struct{}{}
		}
	}
	return f
}

// has tells whether an object was found; a nil found holds nothing.
func (f *found) has(key plan.Key) bool {
	if f == nil {
		return false
	}
	_, is := f.keys[key]
	return is
}

// overlaps tells whether something of a fragment was found.
func (f *found) overlaps(fragment plan.Plan) bool {
	if f == nil {
		return false
	}
	for key := range fragment {
		if at, is := placeOf(key); is {
			if _, taken := f.places[at]; taken {
				return true
			}
		}
	}
	return false
}

// followSync ends the time of the restored snapshot: from then on what was found counts as any
// other object, and is compared with what it is to be.
func (r *Reconciler) followSync(snapshot *state.Snapshot) {
	if snapshot.Synced && r.found != nil {
		r.found, r.anew = nil, true
	}
	if r.anew {
		r.planned, r.anew = nil, false
	}
}

// lost notes what somebody else has removed of what was found; a Service of which nothing is left
// is planned as any other.
func (r *Reconciler) lost(happened []plan.Op) {
	if r.found == nil || len(happened) == 0 {
		return
	}
	left := make(plan.Plan)
	for key := range r.found.keys {
		if value, still := r.applied.Get(key); still {
			left[key] = value
		}
	}
	r.found, r.anew = newFound(left), true
}
