package plan

import (
	"maps"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
)

// An Assembly puts the fragments of all Services together into one plan, one Service at
// a time, at the cost of that Service alone. Several Services may ask for the same object
// (two share a pod, hence a hairpin; two claim one external address): it stays as long as
// one of them asks, and the Service first in order of names decides its value, so that
// the result depends on the objects and not on the order of events.
//
// An Assembly is not safe for concurrent use.
type Assembly struct {
	fragments map[model.ServiceKey]Plan
	claims    map[Key][]model.ServiceKey
}

// NewAssembly gives an empty Assembly.
func NewAssembly() *Assembly {
	return &Assembly{fragments: make(map[model.ServiceKey]Plan), claims: make(map[Key][]model.ServiceKey)}
}

// Replace puts a fragment in the place of the owner's last one and returns the keys whose
// presence or value in the whole may have changed. An empty fragment removes the owner. The
// zero ServiceKey may own what belongs to no Service.
func (a *Assembly) Replace(owner model.ServiceKey, fragment Plan) []Key {
	var changed []Key
	old := a.fragments[owner]
	for key := range old {
		if _, stays := fragment[key]; !stays {
			a.release(key, owner)
			changed = append(changed, key)
		}
	}
	for key, value := range fragment {
		if before, had := old[key]; !had {
			a.claim(key, owner)
			changed = append(changed, key)
		} else if before != value {
			changed = append(changed, key)
		}
	}
	if len(fragment) == 0 {
		delete(a.fragments, owner)
	} else {
		a.fragments[owner] = fragment
	}
	return changed
}

// Want gives the value an object is to have, and whether it is to exist.
func (a *Assembly) Want(key Key) (Value, bool) {
	owners := a.claims[key]
	if len(owners) == 0 {
		return Value{}, false
	}
	return a.fragments[owners[0]][key], true
}

// Owner gives the Service that decides about an object.
func (a *Assembly) Owner(key Key) (model.ServiceKey, bool) {
	owners := a.claims[key]
	if len(owners) == 0 {
		return model.ServiceKey{}, false
	}
	return owners[0], true
}

// Plan gives the whole.
func (a *Assembly) Plan() Plan {
	whole := make(Plan, len(a.claims))
	for key := range a.claims {
		whole[key], _ = a.Want(key)
	}
	return whole
}

func (a *Assembly) claim(key Key, owner model.ServiceKey) {
	owners := a.claims[key]
	i, _ := slices.BinarySearchFunc(owners, owner, model.ServiceKey.Compare)
	a.claims[key] = slices.Insert(owners, i, owner)
}

func (a *Assembly) release(key Key, owner model.ServiceKey) {
	owners := a.claims[key]
	i, found := slices.BinarySearchFunc(owners, owner, model.ServiceKey.Compare)
	if !found {
		return
	}
	if len(owners) == 1 {
		delete(a.claims, key)
		return
	}
	a.claims[key] = slices.Delete(owners, i, i+1)
}

// Owners gives those who have a fragment, in no particular order.
func (a *Assembly) Owners() []model.ServiceKey {
	return slices.Collect(maps.Keys(a.fragments))
}

// Keys gives the keys of all objects, in no particular order.
func (a *Assembly) Keys() []Key {
	return slices.Collect(maps.Keys(a.claims))
}
