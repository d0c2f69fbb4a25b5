package plan

import (
	"maps"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
)

// An Assembly puts the fragments of all Services together into one plan, one Service at
// a time, at the cost of that Service alone. Several Services may ask for the same object
// (two share a pod, hence a hairpin): it stays as long as one of them asks. When two claim
// one address, protocol and port, the Service first in order of names gets it with all that
// belongs to it, so that the result depends on the objects and not on the order of events,
// and endpoints of one Service never answer for another.
//
// An Assembly is not safe for concurrent use.
type Assembly struct {
	fragments map[model.ServiceKey]Plan
	// claims has who asks for something of a group, in order of names.
	claims map[Key][]model.ServiceKey
}

// NewAssembly gives an empty Assembly.
func NewAssembly() *Assembly {
	return &Assembly{fragments: make(map[model.ServiceKey]Plan), claims: make(map[Key][]model.ServiceKey)}
}

// group gives the key of what an object comes and goes with: the virtual server of its
// address, protocol and port; or of the object itself where there is none.
func (k Key) group() Key {
	switch k.Kind {
	case Hairpin, ServiceCIDR, PodCIDR, Relay:
		return k
	}
	k = k.VirtualServerKey()
	k.Bits = 0
	return k
}

// Replace puts a fragment in the place of the owner's last one and returns the keys whose
// presence or value in the whole may have changed. An empty fragment removes the owner. The
// zero ServiceKey may own what belongs to no Service.
func (a *Assembly) Replace(owner model.ServiceKey, fragment Plan) []Key {
	old := a.fragments[owner]
	changed := differing(old, fragment)
	before, after := groups(old), groups(fragment)
	for group := range before {
		if _, stays := after[group]; !stays {
			changed = append(changed, a.release(group, owner)...)
		}
	}
	for group := range after {
		if _, had := before[group]; !had {
			changed = append(changed, a.claim(group, owner)...)
		}
	}
	if len(fragment) == 0 {
		delete(a.fragments, owner)
	} else {
		a.fragments[owner] = fragment
	}
	return changed
}

// differing gives the keys whose presence or value differs.
func differing(old, fragment Plan) []Key {
	var keys []Key
	for key := range old {
		if _, stays := fragment[key]; !stays {
			keys = append(keys, key)
		}
	}
	for key, value := range fragment {
		if before, had := old[key]; !had || before != value {
			keys = append(keys, key)
		}
	}
	return keys
}

func groups(p Plan) map[Key]struct{} {
	result := make(map[Key]struct{}, len(p))
	for key := range p {
		result[key.group()] = struct{}{}
	}
	return result
}

// Want gives the value an object is to have, and whether it is to exist.
func (a *Assembly) Want(key Key) (Value, bool) {
	owners := a.claims[key.group()]
	if len(owners) == 0 {
		return Value{}, false
	}
	value, exists := a.fragments[owners[0]][key]
	return value, exists
}

// Plan gives the whole.
func (a *Assembly) Plan() Plan {
	whole := make(Plan)
	for owner, fragment := range a.fragments {
		for key, value := range fragment {
			if a.claims[key.group()][0] == owner {
				whole[key] = value
			}
		}
	}
	return whole
}

// claim enters an owner and gives the keys of whom that displaces.
func (a *Assembly) claim(group Key, owner model.ServiceKey) []Key {
	owners := a.claims[group]
	i, _ := slices.BinarySearchFunc(owners, owner, model.ServiceKey.Compare)
	a.claims[group] = slices.Insert(owners, i, owner)
	if i > 0 || len(owners) == 0 {
		return nil
	}
	return a.keysOf(a.claims[group][1], group)
}

// release strikes an owner out and gives the keys of whom that lets in.
func (a *Assembly) release(group Key, owner model.ServiceKey) []Key {
	owners := a.claims[group]
	i, found := slices.BinarySearchFunc(owners, owner, model.ServiceKey.Compare)
	if !found {
		return nil
	}
	if len(owners) == 1 {
		delete(a.claims, group)
		return nil
	}
	a.claims[group] = slices.Delete(owners, i, i+1)
	if i > 0 {
		return nil
	}
	return a.keysOf(a.claims[group][0], group)
}

// keysOf gives the objects of a group in an owner's fragment.
func (a *Assembly) keysOf(owner model.ServiceKey, group Key) []Key {
	var keys []Key
	for key := range a.fragments[owner] {
		if key.group() == group {
			keys = append(keys, key)
		}
	}
	return keys
}

// Owners gives those who have a fragment, in no particular order.
func (a *Assembly) Owners() []model.ServiceKey {
	return slices.Collect(maps.Keys(a.fragments))
}

// Keys gives the keys of all objects, in no particular order.
func (a *Assembly) Keys() []Key {
	return slices.Collect(maps.Keys(a.Plan()))
}
