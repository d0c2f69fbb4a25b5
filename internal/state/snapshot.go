// Package state holds what the cluster looks like as immutable snapshots.
//
// One writer, a source of internal/watch, commits transactions; any number of readers
// load the newest Snapshot without a lock and keep it as long as they like. Two
// snapshots can be compared at the cost of what differs. "Not yet synced" is a property
// of the snapshot, so partial data cannot be taken for deletions.
package state

import (
	"iter"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mooring-project/mooring/internal/model"
)

// A Snapshot is the cluster at one moment. It never changes and is safe for concurrent
// use.
type Snapshot struct {
	// Revision grows by one with each commit that changed something.
	Revision uint64
	// Synced is true once every kind of object has been listed completely. Until then
	// a missing object proves nothing.
	Synced bool
	// Restored is the time as of which the objects were known that Store.Restore began
	// with; zero in every other snapshot.
	Restored time.Time
	// ChangedAt is the time of the commit that made this snapshot.
	ChangedAt time.Time

	services     Map[model.ServiceKey, *Service]
	namespaces   Map[string, *model.Namespace]
	nodes        Map[string, *model.Node]
	pods         Map[PodKey, *model.Pod]
	serviceCIDRs []netip.Prefix
	addresses    addrMap[*AddressUse]

	superseded chan struct{}
}

// Service is a Service with its EndpointSlices. Slices that arrive before their Service
// wait here with Service nil.
type Service struct {
	Service *model.Service
	// Slices are sorted by name.
	Slices []*model.EndpointSlice

	// use is what the addresses stand for that the Service alone has; nil before there is one.
	use  *AddressUse
	memo atomic.Pointer[any]
}

// Memo gives what SetMemo kept last, nil at first. It is a place for one reader of the
// Store to keep what it derives from the entry: derived once, dropped with the entry.
// Both are safe for concurrent use.
func (s *Service) Memo() any {
	if kept := s.memo.Load(); kept != nil {
		return *kept
	}
	return nil
}

// SetMemo keeps a value for Memo; it must not change afterwards.
func (s *Service) SetMemo(value any) { s.memo.Store(&value) }

// PodKey names a Pod.
type PodKey struct {
	Namespace string
	Name      string
}

// Superseded gives a channel that is closed when a newer snapshot has been committed.
func (s *Snapshot) Superseded() <-chan struct{} { return s.superseded }

// Service gives a Service with its slices, nil if there is no such Service.
func (s *Snapshot) Service(key model.ServiceKey) *Service {
	if entry, found := s.services.Get(key); found && entry.Service != nil {
		return entry
	}
	return nil
}

// Entry gives what there is under a Service's name: the Service with its slices, or, with
// Service nil, slices alone that name it; nil if there is neither.
func (s *Snapshot) Entry(key model.ServiceKey) *Service {
	entry, _ := s.services.Get(key)
	return entry
}

// Services goes over all Services, in no particular order.
func (s *Snapshot) Services() iter.Seq2[model.ServiceKey, *Service] {
	return func(yield func(model.ServiceKey, *Service) bool) {
		for key, entry := range s.services.All() {
			if entry.Service != nil && !yield(key, entry) {
				return
			}
		}
	}
}

// Namespace gives a Namespace, nil if it does not exist.
func (s *Snapshot) Namespace(name string) *model.Namespace {
	namespace, _ := s.namespaces.Get(name)
	return namespace
}

// Namespaces goes over all Namespaces, in no particular order.
func (s *Snapshot) Namespaces() iter.Seq2[string, *model.Namespace] { return s.namespaces.All() }

// Node gives a Node, nil if it is not known.
func (s *Snapshot) Node(name string) *model.Node {
	node, _ := s.nodes.Get(name)
	return node
}

// Nodes goes over all Nodes, in no particular order.
func (s *Snapshot) Nodes() iter.Seq2[string, *model.Node] { return s.nodes.All() }

// Pods goes over all Pods, in no particular order; none unless the source was asked
// for Pods.
func (s *Snapshot) Pods() iter.Seq2[PodKey, *model.Pod] { return s.pods.All() }

// Pod gives a Pod, nil if it is not known.
func (s *Snapshot) Pod(key PodKey) *model.Pod {
	pod, _ := s.pods.Get(key)
	return pod
}

// ServiceCIDRs gives the prefixes from which ClusterIPs are allocated, as far as known.
// The caller must not change the slice.
func (s *Snapshot) ServiceCIDRs() []netip.Prefix { return s.serviceCIDRs }

// ChangedServices calls visit for each Service that differs between old and s, with nil
// for one that does not exist. The cost is that of the differences.
func (s *Snapshot) ChangedServices(old *Snapshot, visit func(key model.ServiceKey, before, after *Service)) {
	s.services.Diff(old.services, func(key model.ServiceKey, before, after *Service) {
		before, after = visible(before), visible(after)
		if before != nil || after != nil {
			visit(key, before, after)
		}
	})
}

// visible hides an entry that has slices only.
func visible(entry *Service) *Service {
	if entry == nil || entry.Service == nil {
		return nil
	}
	return entry
}
