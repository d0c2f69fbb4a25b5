package state

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
)

// An AddressUse says what an address stands for. It never changes.
type AddressUse struct {
	// Services are those that have the address as ClusterIP, external IP, load balancer
	// IP or endpoint, sorted by key.
	Services []model.ServiceKey
	// Pods are those that have the address, sorted by name; several if they use their
	// node's network. It is empty unless the source was asked for Pods.
	Pods []*model.Pod
}

// NewIndexedStore gives a Store whose snapshots can be asked by address. The index is
// committed together with the objects, so the two never disagree.
func NewIndexedStore() *Store {
	s := NewStore()
	s.indexed = true
	return s
}

// Address says what an address stands for, nil if nothing or if the Store has no index.
func (s *Snapshot) Address(addr netip.Addr) *AddressUse { return s.addresses.get(addr.Unmap()) }

// Addresses goes over the addresses in a prefix that stand for something, in their order.
// The prefix length must be a multiple of four.
func (s *Snapshot) Addresses(prefix netip.Prefix) iter.Seq2[netip.Addr, *AddressUse] {
	return s.addresses.in(prefix)
}

// indexService follows the change of one entry from before to after; either may be nil.
func (t *Txn) indexService(key model.ServiceKey, before, after *Service) {
	if !t.store.indexed {
		return
	}
	if before != nil && after != nil {
		after.use = before.use
	}
	given, taken := changedAddresses(before, after)
	for addr := range given {
		t.useAddress(addr, key, after)
	}
	for addr := range taken {
		if _, again := given[addr]; !again && !after.holds(addr) {
			t.dropAddress(addr, key)
		}
	}
}

// useAddress notes that a Service has an address. Addresses that a single Service has
// and nobody else, which is nearly all, share one AddressUse.
func (t *Txn) useAddress(addr netip.Addr, key model.ServiceKey, entry *Service) {
	old := t.next.addresses.get(addr)
	if old == nil {
		if entry.use == nil {
			entry.use = &AddressUse{Services: []model.ServiceKey{key}}
		}
		t.next.addresses = t.next.addresses.set(addr, entry.use, t.by)
		return
	}
	i, found := slices.BinarySearchFunc(old.Services, key, model.ServiceKey.Compare)
	if !found {
		use := &AddressUse{Services: slices.Insert(slices.Clone(old.Services), i, key), Pods: old.Pods}
		t.next.addresses = t.next.addresses.set(addr, use, t.by)
	}
}

func (t *Txn) dropAddress(addr netip.Addr, key model.ServiceKey) {
	old := t.next.addresses.get(addr)
	if old == nil {
		return
	}
	i, found := slices.BinarySearchFunc(old.Services, key, model.ServiceKey.Compare)
	if found {
		t.setUse(addr, AddressUse{Services: slices.Concat(old.Services[:i], old.Services[i+1:]), Pods: old.Pods})
	}
}

// indexPod follows the change of one Pod; either may be nil.
func (t *Txn) indexPod(before, after *model.Pod) {
	if !t.store.indexed {
		return
	}
	if before != nil {
		for _, addr := range before.Addresses {
			t.setPods(addr.Unmap(), before, nil)
		}
	}
	if after != nil {
		for _, addr := range after.Addresses {
			t.setPods(addr.Unmap(), nil, after)
		}
	}
}

// setPods removes one Pod from an address and adds another.
func (t *Txn) setPods(addr netip.Addr, remove, add *model.Pod) {
	var use AddressUse
	if old := t.next.addresses.get(addr); old != nil {
		use = *old
	}
	use.Pods = slices.DeleteFunc(slices.Clone(use.Pods), func(p *model.Pod) bool { return p == remove })
	if add != nil && !slices.Contains(use.Pods, add) {
		use.Pods = append(use.Pods, add)
		slices.SortFunc(use.Pods, comparePods)
	}
	t.setUse(addr, use)
}

func comparePods(a, b *model.Pod) int {
	return model.ServiceKey{Namespace: a.Namespace, Name: a.Name}.
		Compare(model.ServiceKey{Namespace: b.Namespace, Name: b.Name})
}

func (t *Txn) setUse(addr netip.Addr, use AddressUse) {
	if len(use.Services) == 0 && len(use.Pods) == 0 {
		t.next.addresses = t.next.addresses.delete(addr, t.by)
		return
	}
	t.next.addresses = t.next.addresses.set(addr, &use, t.by)
}

// changedAddresses gives the addresses of those parts of two entries that differ: those that
// the parts have afterwards, and those that they had before.
func changedAddresses(before, after *Service) (given, taken map[netip.Addr]struct{}) {
	given, taken = make(map[netip.Addr]struct{}), make(map[netip.Addr]struct{})
	give := func(addr netip.Addr) { given[addr] = struct{}{} }
	take := func(addr netip.Addr) { taken[addr] = struct{}{} }
	if before.object() != after.object() {
		before.eachServiceAddress(take)
		after.eachServiceAddress(give)
	}
	addMissing(before, after, take)
	addMissing(after, before, give)
	return given, taken
}

// addMissing goes over the endpoints of the slices that one entry has and the other not.
func addMissing(entry, other *Service, add func(netip.Addr)) {
	if entry == nil {
		return
	}
	for _, slice := range entry.Slices {
		if other != nil && slices.Contains(other.Slices, slice) {
			continue
		}
		for i := range slice.Endpoints {
			add(slice.Endpoints[i].Addr.Unmap())
		}
	}
}

func (s *Service) object() *model.Service {
	if s == nil {
		return nil
	}
	return s.Service
}

// eachServiceAddress goes over the addresses that the Service itself has.
func (s *Service) eachServiceAddress(visit func(netip.Addr)) {
	object := s.object()
	if object == nil {
		return
	}
	for _, list := range [][]netip.Addr{object.ClusterIPs, object.ExternalIPs, object.LoadBalancerIPs} {
		for _, addr := range list {
			visit(addr.Unmap())
		}
	}
}

// holds tells whether an entry has an address, as a Service or as an endpoint.
func (s *Service) holds(addr netip.Addr) bool {
	if s == nil {
		return false
	}
	found := false
	s.eachServiceAddress(func(a netip.Addr) { found = found || a == addr })
	for _, slice := range s.Slices {
		for i := range slice.Endpoints {
			if slice.Endpoints[i].Addr.Unmap() == addr {
				return true
			}
		}
	}
	return found
}
