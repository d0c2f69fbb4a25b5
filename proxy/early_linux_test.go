package proxy

import (
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// TestTheKernelHasServicesBeforeEverythingIsRead reads one Service, and later all others.
func TestTheKernelHasServicesBeforeEverythingIsRead(t *testing.T) {
	s := newScale(t, func(o *reconcile.Options) { o.Early = true })
	s.store.Update(time.Now(), func(tx *state.Txn) {
		tx.PutNode(&model.Node{Name: scaleContext().Place.Node})
		service, slice := numbered(0, protocolOf(0), 2)
		tx.PutService(service)
		tx.PutSlice(slice)
	})
	early := s.await(func(r reconcile.Round) bool { return len(r.Done) > 0 })
	s.exact()
	const services = 100
	operations := s.commit(func(tx *state.Txn) { load(tx, services) })
	s.exact()
	if all := len(wanted(s.store.Load())); early != all/services || early+operations != all {
		t.Errorf("%d operations before everything was read and %d after, for %d objects of %d Services", early, operations, all, services)
	}
}
