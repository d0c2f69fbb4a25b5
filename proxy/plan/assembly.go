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
	owners map[model.ServiceKey]*owner
	// sole has who alone asks for something of a group, shared the claims of several, who gets
	// it first.
	sole   table[*owner]
	shared map[Key][]claim
	values values
}

// An owner has a fragment. own are the addresses that are its before anybody else's.
type owner struct {
	key      model.ServiceKey
	own      []netip.Addr
	fragment packed
}

// A claim is an owner's wish for something of a group.
type claim struct {
	// own is true if the group's address is the owner's before anybody else's.
	own   bool
	owner *owner
}

// compare orders claims: who gets it comes first.
func (c claim) compare(other claim) int {
	switch {
	case c.own && !other.own:
		return -1
	case other.own && !c.own:
		return 1
	}
	return c.owner.key.Compare(other.owner.key)
}

// NewAssembly gives an empty Assembly.
func NewAssembly() *Assembly {
	return &Assembly{owners: make(map[model.ServiceKey]*owner), sole: newTable[*owner](), shared: make(map[Key][]claim)}
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
func (a *Assembly) Replace(of model.ServiceKey, fragment Plan, own ...netip.Addr) []Key {
	o := a.owners[of]
	if o == nil {
		o = &owner{key: of}
	}
	changed := a.differing(o.fragment, fragment)
	before, after := groups(o.keys()), groups(maps.Keys(fragment))
	again := !slices.Equal(o.own, own)
	for group := range before {
		if _, stays := after[group]; !stays || again {
			changed = append(changed, a.release(group, o)...)
		}
	}
	o.own = own
	for group := range after {
		if _, had := before[group]; !had || again {
			changed = append(changed, a.claim(group, o)...)
		}
	}
	if o.fragment = newPacked(fragment, &a.values); len(fragment) == 0 {
		delete(a.owners, of)
	} else {
		a.owners[of] = o
	}
	if again && len(before) > 0 {
		// Who gets a group may have changed, though the owner asks for the same.
		changed = append(changed, slices.Collect(maps.Keys(fragment))...)
	}
	return changed
}

func groups(keys iter.Seq[Key]) map[Key]struct{} {
	result := make(map[Key]struct{})
	var last Key // a large fragment has mostly the endpoints of one virtual server
	for key := range keys {
		if group := key.group(); group != last {
			result[group], last = struct{}{}, group
		}
	}
	return result
}

// keys goes over those of an owner's fragment.
func (o *owner) keys() iter.Seq[Key] {
	return func(yield func(Key) bool) {
		for key := range o.fragment.all() {
			if !yield(key) {
				return
			}
		}
	}
}

// differing gives the keys whose presence or value differs.
func (a *Assembly) differing(old packed, fragment Plan) []Key {
	var keys []Key
	for key := range old.all() {
		if _, stays := fragment[key]; !stays {
			keys = append(keys, key)
		}
	}
	for key, value := range fragment {
		if before, had := old.get(key); !had || before != a.values.pack(value) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Want gives the value an object is to have, and whether it is to exist.
func (a *Assembly) Want(key Key) (Value, bool) {
	o := a.first(key.group())
	if o == nil {
		return Value{}, false
	}
	value, exists := o.fragment.get(key)
	return a.values.value(value), exists
}

// first gives who gets a group; nil if nobody asks for it.
func (a *Assembly) first(group Key) *owner {
	if o, alone := a.sole.get(group); alone {
		return o
	}
	if claims := a.shared[group]; len(claims) > 0 {
		return claims[0].owner
	}
	return nil
}

// Owner gives who has an object, or would have it; zero if nobody asks for anything of its group.
func (a *Assembly) Owner(key Key) model.ServiceKey {
	if o := a.first(key.group()); o != nil {
		return o.key
	}
	return model.ServiceKey{}
}

// Plan gives the whole.
func (a *Assembly) Plan() Plan {
	whole := make(Plan)
	for _, o := range a.owners {
		for key, value := range o.fragment.all() {
			if a.first(key.group()) == o {
				whole[key] = a.values.value(value)
			}
		}
	}
	return whole
}

// claimOf gives an owner's claim to a group.
func claimOf(group Key, o *owner) claim {
	return claim{own: slices.Contains(o.own, group.Addr), owner: o}
}

// claim enters an owner and gives the keys of whom that displaces.
func (a *Assembly) claim(group Key, o *owner) []Key {
	claims := a.shared[group]
	if len(claims) == 0 {
		alone, is := a.sole.get(group)
		if !is {
			a.sole.set(group, o)
			return nil
		}
		a.sole.delete(group)
		claims = []claim{claimOf(group, alone)}
	}
	entry := claimOf(group, o)
	i, _ := slices.BinarySearchFunc(claims, entry, claim.compare)
	claims = slices.Insert(claims, i, entry)
	a.shared[group] = claims
	if i > 0 {
		return nil
	}
	return claims[1].owner.of(group)
}

// release strikes an owner out and gives the keys of whom that lets in.
func (a *Assembly) release(group Key, o *owner) []Key {
	claims := a.shared[group]
	if len(claims) == 0 {
		a.sole.delete(group)
		return nil
	}
	i, found := slices.BinarySearchFunc(claims, claimOf(group, o), claim.compare)
	if !found {
		return nil
	}
	claims = slices.Delete(claims, i, i+1)
	if a.shared[group] = claims; len(claims) == 1 {
		delete(a.shared, group)
		a.sole.set(group, claims[0].owner)
	}
	if i > 0 {
		return nil
	}
	return claims[0].owner.of(group)
}

// of gives the objects of a group in an owner's fragment.
func (o *owner) of(group Key) []Key {
	var keys []Key
	for key := range o.keys() {
		if key.group() == group {
			keys = append(keys, key)
		}
	}
	return keys
}

// Owners gives those who have a fragment, in no particular order.
func (a *Assembly) Owners() []model.ServiceKey {
	return slices.Collect(maps.Keys(a.owners))
}

// Has tells whether there is a fragment of a Service.
func (a *Assembly) Has(of model.ServiceKey) bool { return a.owners[of] != nil }

// Of gives the keys of an owner's fragment, in a fixed order.
func (a *Assembly) Of(of model.ServiceKey) []Key {
	if o := a.owners[of]; o != nil {
		return slices.Collect(o.keys())
	}
	return nil
}

// RealServers gives the real servers that a virtual server is to have, in no particular order.
func (a *Assembly) RealServers(server Key) iter.Seq[Key] {
	return func(yield func(Key) bool) {
		o := a.first(server.group())
		if o == nil {
			return
		}
		for key := range o.keys() {
			if key.Kind == RealServer && key.VirtualServerKey() == server && !yield(key) {
				return
			}
		}
	}
}
