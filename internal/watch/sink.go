package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/mooring-project/mooring/internal/state"
)

// A sink is the cache.TransformingStore of one kind: what a reflector puts into it goes
// converted into the state.Store, and nothing of an API object stays. It is used by one
// goroutine.
type sink struct {
	kind      *kind
	selection *Selection
	store     *state.Store
	converter converter
	status    *statusBoard
	logger    *slog.Logger
	// listed is called within the commit of each complete list.
	listed  func(tx *state.Txn)
	listing listing
	// complained remembers the problems logged of each object, to log them once.
	complained map[objectKey]string
	// ledger has the versions of all objects the sink was told of.
	ledger ledger
	// eager is whether objects of a first list are committed before it is complete; early are those
	// that have been read and not been committed, which was done last at committed.
	eager     bool
	early     []kept
	committed time.Time
}

// earlyPause is how long objects of a first list are gathered: each commit costs their reader something.
const earlyPause = 50 * time.Millisecond

// kept is an object after conversion; value nil means that nothing is kept of it.
type kept struct {
	key     objectKey
	value   any
	version uint64
}

// Transformer lets the reflector convert objects as they are decoded, so that the
// initial stream of a watch never piles up API objects (client-go's WatchList).
func (s *sink) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		k, err := s.convert(object)
		if err == nil && k.value != nil && s.kind.present != nil {
			k.value = s.kind.present(s.store.Load(), k.value)
		}
		if err == nil && s.first() {
			s.commitEarly(k, time.Now())
		}
		return k, err
	}
}

// first tells whether objects are to be committed before their list is complete.
func (s *sink) first() bool { return s.eager && !s.store.Load().Usable() }

// commitEarly commits an object of a first list, and those that wait, if it is time to.
func (s *sink) commitEarly(k kept, now time.Time) {
	if s.early = append(s.early, k); now.Sub(s.committed) < earlyPause {
		return
	}
	s.store.Update(now, func(tx *state.Txn) {
		for _, k := range s.early {
			s.commit(tx, k)
		}
	})
	s.early, s.committed = s.early[:0], now
}

func (s *sink) convert(object any) (kept, error) {
	if k, done := object.(kept); done {
		return k, nil
	}
	accessor, err := meta.Accessor(object)
	if err != nil {
		return kept{}, fmt.Errorf("%s: %T: %w", s.kind.resource.Resource, object, err)
	}
	k := kept{
		key:     objectKey{s.converter.names.Text(accessor.GetNamespace()), accessor.GetName()},
		version: parseVersion(accessor.GetResourceVersion()),
	}
	if !s.wants(k.key.namespace) {
		return k, nil
	}
	k.value = s.kind.convert(&s.converter, object)
	s.complain(k.key, s.converter.take())
	return k, nil
}

// wants tells whether to look at objects of a namespace.
func (s *sink) wants(namespace string) bool {
	return !s.kind.namespaced || s.selection.allows(namespace)
}

// complain logs what was left out of an object, once for each set of problems.
func (s *sink) complain(key objectKey, problems []problem) {
	if len(problems) == 0 {
		delete(s.complained, key)
		return
	}
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.String()
	}
	text := strings.Join(texts, "; ")
	if s.complained[key] == text {
		return
	}
	if s.complained == nil {
		s.complained = make(map[objectKey]string)
	}
	s.complained[key] = text
	s.logger.Warn("left out parts of an object that cannot be used",
		"resource", s.kind.resource.Resource, "object", key.String(), "problems", text)
}

// Add stores an object.
func (s *sink) Add(object any) error { return s.Update(object) }

// Update stores an object.
func (s *sink) Update(object any) error {
	k, err := s.convert(object)
	if err != nil {
		return err
	}
	now := time.Now()
	s.store.Update(now, func(tx *state.Txn) { s.commit(tx, k) })
	if s.wants(k.key.namespace) {
		s.ledger.put(k.key, k.version)
	}
	s.status.contact(s.kind.resource.Resource, now)
	return nil
}

func (s *sink) commit(tx *state.Txn, k kept) {
	if k.value == nil {
		s.kind.remove(tx, k.key)
		return
	}
	s.kind.put(tx, k.key, k.value)
}

// Delete removes an object.
func (s *sink) Delete(object any) error {
	accessor, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("%s: %T: %w", s.kind.resource.Resource, object, err)
	}
	key := objectKey{accessor.GetNamespace(), accessor.GetName()}
	delete(s.complained, key)
	now := time.Now()
	s.store.Update(now, func(tx *state.Txn) { s.kind.remove(tx, key) })
	s.ledger.remove(key)
	s.status.contact(s.kind.resource.Resource, now)
	return nil
}

// Replace makes a complete list the whole of the kind, in one commit.
func (s *sink) Replace(objects []any, _ string) error {
	now := time.Now()
	s.early = nil
	var broken error
	versions := make(map[uint64]uint64, len(objects))
	s.store.Update(now, func(tx *state.Txn) {
		present := make(map[objectKey]struct{}, len(objects))
		for i, object := range objects {
			k, err := s.convert(object)
			objects[i] = nil
			if err != nil {
				broken = errors.Join(broken, err)
				continue
			}
			if s.wants(k.key.namespace) {
				versions[fingerprint(k.key)] = k.version
			}
			if k.value != nil {
				present[k.key] = struct{}{}
				s.kind.put(tx, k.key, k.value)
			}
		}
		sweep(tx, s.kind, present)
		s.listed(tx)
	})
	s.status.list(s.kind.resource.Resource, now)
	s.status.repaired(s.kind.resource.Resource, s.ledger.replace(versions))
	s.listing.end()
	return broken
}

// sweep removes what the store has of a kind and present has not.
func sweep[V any](tx *state.Txn, k *kind, present map[objectKey]V) {
	var gone []objectKey
	k.each(tx, func(key objectKey) {
		if _, still := present[key]; !still {
			gone = append(gone, key)
		}
	})
	for _, key := range gone {
		k.remove(tx, key)
	}
}

// Resync has nothing to do: the store is the only consumer.
func (s *sink) Resync() error { return nil }

// Bookmark notes that the server has nothing newer.
func (s *sink) Bookmark(string) error {
	s.status.contact(s.kind.resource.Resource, time.Now())
	return nil
}

// failed notes why a kind cannot be read, unless Run is ending anyway.
func (s *sink) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		s.status.fail(s.kind.resource.Resource, time.Now(), err)
	}
}
