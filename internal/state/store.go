package state

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-project/mooring/internal/model"
)

// A Store holds the newest Snapshot. Load and Snapshot.Superseded are safe for
// concurrent use with everything; updates are serialised.
type Store struct {
	current atomic.Pointer[Snapshot]

	// writing serialises updates and guards what follows.
	writing sync.Mutex
	// listing is what a source has changed so far of a snapshot that was restored; nil
	// when there is nothing that readers are not to see yet.
	listing *Snapshot
	// owners remembers the name of the Service that a slice belongs to, because the label
	// that says so can change.
	owners map[sliceKey]string
	// indexed is true in a Store with an address index.
	indexed bool
}

type sliceKey struct{ namespace, name string }

// NewStore gives a Store with an empty snapshot that is not synced.
func NewStore() *Store {
	s := &Store{owners: make(map[sliceKey]string)}
	s.current.Store(&Snapshot{superseded: make(chan struct{})})
	return s
}

// Load gives the newest snapshot; never nil.
func (s *Store) Load() *Snapshot { return s.current.Load() }

// Update runs change on a transaction and commits what it did as one snapshot, dated
// now. If nothing differs afterwards, no snapshot is made. While the snapshot is a restored
// one, changes are gathered and become visible together with SetSynced: readers never see
// half of a first listing. It returns the snapshot that is current then.
func (s *Store) Update(now time.Time, change func(*Txn)) *Snapshot {
	s.writing.Lock()
	defer s.writing.Unlock()
	old := s.current.Load()
	tx := &Txn{store: s, next: *cmp.Or(s.listing, old), by: new(author)}
	change(tx)
	switch {
	case !tx.changed:
		return old
	case !old.Restored.IsZero() && !tx.next.Synced:
		s.listing = &tx.next
		return old
	}
	return s.publish(old, tx.next, now)
}

// publish makes next the newest snapshot. The caller holds writing.
func (s *Store) publish(old *Snapshot, next Snapshot, now time.Time) *Snapshot {
	s.listing = nil
	next.Revision = old.Revision + 1
	next.ChangedAt = now
	next.superseded = make(chan struct{})
	s.current.Store(&next)
	close(old.superseded)
	return &next
}

// A Txn collects changes; it is valid only inside the function given to Update. Values
// put into it must not be changed afterwards. Putting a value equal to the present one
// changes nothing.
type Txn struct {
	store   *Store
	next    Snapshot
	changed bool
	// by is the author of all branches that the transaction makes.
	by *author
}

// Snapshot gives the state as changed so far, to look things up in. Nothing may be changed while
// it is gone over.
func (t *Txn) Snapshot() *Snapshot { return &t.next }

// SetSynced records that every kind of object has been listed completely.
func (t *Txn) SetSynced() {
	if !t.next.Synced {
		t.next.Synced, t.changed = true, true
		t.next.Restored = time.Time{}
	}
}

// PutService adds or replaces a Service; its slices stay.
func (t *Txn) PutService(service *model.Service) {
	old, _ := t.next.services.Get(service.Key)
	if old == nil {
		t.setService(service.Key, &Service{Service: service})
	} else if !old.Service.Equal(service) {
		t.setService(service.Key, &Service{Service: service, Slices: old.Slices})
	}
}

// DeleteService removes a Service; slices that still name it wait for it to return.
func (t *Txn) DeleteService(key model.ServiceKey) {
	if old, _ := t.next.services.Get(key); old != nil && old.Service != nil {
		t.setService(key, &Service{Slices: old.Slices})
	}
}

// PutSlice adds or replaces an EndpointSlice.
func (t *Txn) PutSlice(slice *model.EndpointSlice) {
	key := sliceKey{slice.Service.Namespace, slice.Name}
	if owner, known := t.store.owners[key]; known && owner != slice.Service.Name {
		t.removeSlice(owner, key)
	}
	t.store.owners[key] = slice.Service.Name
	old, _ := t.next.services.Get(slice.Service)
	entry := &Service{}
	if old != nil {
		entry.Service, entry.Slices = old.Service, old.Slices
	}
	i, found := slices.BinarySearchFunc(entry.Slices, slice.Name, bySliceName)
	switch {
	case !found:
		entry.Slices = slices.Insert(slices.Clone(entry.Slices), i, slice)
	case entry.Slices[i].Equal(slice):
		return
	default:
		entry.Slices = slices.Clone(entry.Slices)
		entry.Slices[i] = slice
	}
	t.setService(slice.Service, entry)
}

// DeleteSlice removes an EndpointSlice by its own name and namespace.
func (t *Txn) DeleteSlice(namespace, name string) {
	key := sliceKey{namespace, name}
	owner, known := t.store.owners[key]
	if !known {
		return
	}
	delete(t.store.owners, key)
	t.removeSlice(owner, key)
}

// EachSlice calls visit with the namespace and name of every slice, as a source needs
// it to find those that a new list no longer has.
func (t *Txn) EachSlice(visit func(namespace, name string)) {
	for key := range t.store.owners {
		visit(key.namespace, key.name)
	}
}

func bySliceName(s *model.EndpointSlice, name string) int { return strings.Compare(s.Name, name) }

func (t *Txn) removeSlice(owner string, slice sliceKey) {
	key := model.ServiceKey{Namespace: slice.namespace, Name: owner}
	old, _ := t.next.services.Get(key)
	if old == nil {
		return
	}
	i, found := slices.BinarySearchFunc(old.Slices, slice.name, bySliceName)
	if !found {
		return
	}
	t.setService(key, &Service{Service: old.Service, Slices: slices.Concat(old.Slices[:i], old.Slices[i+1:])})
}

// setService stores an entry and drops one that has nothing left.
func (t *Txn) setService(key model.ServiceKey, entry *Service) {
	t.changed = true
	before, _ := t.next.services.Get(key)
	if entry.Service == nil && len(entry.Slices) == 0 {
		t.indexService(key, before, nil)
		t.next.services = t.next.services.delete(key, t.by)
		return
	}
	t.indexService(key, before, entry)
	t.next.services = t.next.services.set(key, entry, t.by)
}

// PutNamespace adds a Namespace.
func (t *Txn) PutNamespace(namespace *model.Namespace) {
	if old, found := t.next.namespaces.Get(namespace.Name); !found || *old != *namespace {
		t.next.namespaces, t.changed = t.next.namespaces.set(namespace.Name, namespace, t.by), true
	}
}

// DeleteNamespace removes a Namespace; objects in it are removed by their own events.
func (t *Txn) DeleteNamespace(name string) {
	if _, found := t.next.namespaces.Get(name); found {
		t.next.namespaces, t.changed = t.next.namespaces.delete(name, t.by), true
	}
}

// PutNode adds or replaces a Node.
func (t *Txn) PutNode(node *model.Node) {
	if old, _ := t.next.nodes.Get(node.Name); !old.Equal(node) {
		t.next.nodes, t.changed = t.next.nodes.set(node.Name, node, t.by), true
	}
}

// DeleteNode removes a Node.
func (t *Txn) DeleteNode(name string) {
	if _, found := t.next.nodes.Get(name); found {
		t.next.nodes, t.changed = t.next.nodes.delete(name, t.by), true
	}
}

// PutPod adds or replaces a Pod.
func (t *Txn) PutPod(pod *model.Pod) {
	key := PodKey{pod.Namespace, pod.Name}
	if old, _ := t.next.pods.Get(key); !old.Equal(pod) {
		t.indexPod(old, pod)
		t.next.pods, t.changed = t.next.pods.set(key, pod, t.by), true
	}
}

// DeletePod removes a Pod.
func (t *Txn) DeletePod(key PodKey) {
	if old, found := t.next.pods.Get(key); found {
		t.indexPod(old, nil)
		t.next.pods, t.changed = t.next.pods.delete(key, t.by), true
	}
}

// SetServiceCIDRs replaces the prefixes from which ClusterIPs are allocated.
func (t *Txn) SetServiceCIDRs(prefixes []netip.Prefix) {
	if !slices.Equal(t.next.serviceCIDRs, prefixes) {
		t.next.serviceCIDRs, t.changed = slices.Clone(prefixes), true
	}
}
