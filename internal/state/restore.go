package state

import "time"

// Restore begins with objects of an earlier time, known as of asOf, that fill puts into
// the transaction. To be called before a source fills the Store. The snapshot is not
// synced, but it is Usable; the first complete listing of a source takes its place as a
// whole, and what that listing lacks is gone then and not before.
func (s *Store) Restore(now, asOf time.Time, fill func(*Txn)) *Snapshot {
	s.writing.Lock()
	defer s.writing.Unlock()
	old := s.current.Load()
	tx := &Txn{store: s, next: *old, by: new(author)}
	fill(tx)
	tx.next.Restored = asOf
	return s.publish(old, tx.next, now)
}

// Usable tells whether the snapshot holds a whole cluster: the present one, or, in a
// restored snapshot, that of an earlier time.
func (s *Snapshot) Usable() bool { return s.Synced || !s.Restored.IsZero() }
