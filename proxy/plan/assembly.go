package plan

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
)

// An Assembly puts the fragments of all Services together into one plan, one Service at
// a time, at the cost of that Service alone. Several Services may ask for the same object
// (two share a pod, hence a hairpin): it stays as long as one of them asks. When two claim
// one address, protocol and port, the Service whose own address it is gets it with all that
// belongs to it, or else the one first in order of names: so the result depends on the objects
// and not on the order of events, nobody can take another's ClusterIP by naming it as an
// external address, and endpoints of one Service never answer for another.
//
// An Assembly is not safe for concurrent use.
type Assembly struct {
	fragments map[model.ServiceKey]Plan
	// own has the addresses that are an owner's before anybody else's.
	own map[model.ServiceKey][]netip.Addr
	// claims has who asks for something of a group, who gets it first.
	claims map[Key][]claim
}

// A claim is an owner's wish for something of a group.
type claim struct {
	// own is true if the group's address is the owner's before anybody else's.
	own   bool
	owner model.ServiceKey
}

// compare orders claims: who gets it comes first.
func (c claim) compare(other claim) int {
	switch {
	case c.own && !other.own:
		return -1
	case other.own && !c.own:
		return 1
	}
	return c.owner.Compare(other.owner)
}

// NewAssembly gives an empty Assembly.
func NewAssembly() *Assembly {
	return &Assembly{
		fragments: make(map[model.ServiceKey]Plan), own: make(map[model.ServiceKey][]netip.Addr),
		claims: make(map[Key][]claim),
	}
}

// group gives the key of what an object comes and goes with: the virtual server of its
// address, protocol and port; or of the object itself where there is none.
func (k Key) group() Key {
	switch k.Kind {
	case Hairpin, ServiceCIDR, PodCIDR, Relay:
		return k
	case AffinityTimeout:
		k.Mark &^= Masqueraded
	}
	k = k.VirtualServerKey()
	k.Bits = 0
	return k
}

// Replace puts a fragment in the place of the owner's last one and returns the keys whose
// presence or value in the whole may have changed. Of the fragment's addresses, those in own, a
// Service's ClusterIPs, are the owner's before anybody else's. An empty fragment removes the
// owner. The zero ServiceKey may own what belongs to no Service.
func (a *Assembly) Replace(owner model.ServiceKey, fragment Plan, own ...netip.Addr) []Key {
	old := a.fragments[owner]
	changed := differing(old, fragment)
	before, after := groups(old), groups(fragment)
	again := !slices.Equal(a.own[owner], own)
	for group := range before {
		if _, stays := after[group]; !stays || again {
			changed = append(changed, a.release(group, owner)...)
		}
	}
	if a.own[owner] = own; len(own) == 0 {
		delete(a.own, owner)
	}
	for group := range after {
		if _, had := before[group]; !had || again {
			changed = append(changed, a.claim(group, owner)...)
		}
	}
	if len(fragment) == 0 {
		delete(a.fragments, owner)
	} else {
		a.fragments[owner] = fragment
	}
	if again {
		// Who gets a group may have changed, though the owner asks for the same.
		changed = append(changed, slices.Collect(maps.Keys(fragment))...)
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
	value, exists := a.fragments[owners[0].owner][key]
	return value, exists
}

// Owner gives who has an object, or would have it; zero if nobody asks for anything of its group.
func (a *Assembly) Owner(key Key) model.ServiceKey {
	if owners := a.claims[key.group()]; len(owners) > 0 {
		return owners[0].owner
	}
	return model.ServiceKey{}
}

// Plan gives the whole.
func (a *Assembly) Plan() Plan {
	whole := make(Plan)
	for owner, fragment := range a.fragments {
		for key, value := range fragment {
			if a.claims[key.group()][0].owner == owner {
				whole[key] = value
			}
		}
	}
	return whole
}

// claimOf gives an owner's claim to a group.
func (a *Assembly) claimOf(group Key, owner model.ServiceKey) claim {
	return claim{own: slices.Contains(a.own[owner], group.Addr), owner: owner}
}

// claim enters an owner and gives the keys of whom that displaces.
func (a *Assembly) claim(group Key, owner model.ServiceKey) []Key {
	claims, entry := a.claims[group], a.claimOf(group, owner)
	i, _ := slices.BinarySearchFunc(claims, entry, claim.compare)
	a.claims[group] = slices.Insert(claims, i, entry)
	if i > 0 || len(claims) == 0 {
		return nil
	}
	return a.keysOf(a.claims[group][1].owner, group)
}

// release strikes an owner out and gives the keys of whom that lets in.
func (a *Assembly) release(group Key, owner model.ServiceKey) []Key {
	claims := a.claims[group]
	i, found := slices.BinarySearchFunc(claims, a.claimOf(group, owner), claim.compare)
	if !found {
		return nil
	}
	if len(claims) == 1 {
		delete(a.claims, group)
		return nil
	}
	a.claims[group] = slices.Delete(claims, i, i+1)
	if i > 0 {
		return nil
	}
	return a.keysOf(a.claims[group][0].owner, group)
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

// Of gives the keys of an owner's fragment, in no particular order.
func (a *Assembly) Of(owner model.ServiceKey) []Key {
	return slices.Collect(maps.Keys(a.fragments[owner]))
}

// RealServers gives the real servers that a virtual server is to have, in no particular order.
func (a *Assembly) RealServers(server Key) iter.Seq[Key] {
	return func(yield func(Key) bool) {
		for key := range a.fragments[a.Owner(server)] {
			if key.Kind == RealServer && key.VirtualServerKey() == server && !yield(key) {
				return
			}
		}
	}
}
