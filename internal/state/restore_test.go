package state

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
)

func TestRestoredSnapshotIsReplacedAsAWhole(t *testing.T) {
	now, asOf := time.Unix(1000, 0), time.Unix(900, 0)
	web, gone, added := model.ServiceKey{Namespace: "shop", Name: "web"}, model.ServiceKey{Namespace: "shop", Name: "gone"}, model.ServiceKey{Namespace: "shop", Name: "new"}
	store := NewIndexedStore()
	restored := store.Restore(now, asOf, func(tx *Txn) {
		for _, key := range []model.ServiceKey{web, gone} {
			tx.PutService(&model.Service{Key: key, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
			tx.PutSlice(&model.EndpointSlice{Name: key.Name + "-1", Service: key, Endpoints: []model.Endpoint{{Addr: netip.MustParseAddr("10.1.0.1")}}})
		}
	})
	if restored.Synced || !restored.Usable() || !restored.Restored.Equal(asOf) || restored.Revision != 1 {
		t.Fatalf("restored: %+v", restored)
	}
	// The Services have been listed; EndpointSlices have not.
	current := store.Update(now, func(tx *Txn) {
		tx.PutService(&model.Service{Key: added})
		tx.DeleteService(gone)
	})
	if current != restored || store.Load() != restored {
		t.Error("half of a listing is visible")
	}
	select {
	case <-restored.Superseded():
		t.Error("superseded by half of a listing")
	default:
	}
	synced := store.Update(now, func(tx *Txn) {
		tx.DeleteSlice("shop", "gone-1")
		tx.SetSynced()
	})
	<-restored.Superseded()
	if !synced.Synced || !synced.Restored.IsZero() || synced.Revision != 2 || store.Load() != synced {
		t.Errorf("synced: %+v", synced)
	}
	if synced.Service(gone) != nil || synced.Service(added) == nil || synced.Service(web) == nil {
		t.Error("the listing has not taken the place of what was restored")
	}
	if restored.Service(gone) == nil || restored.Service(added) != nil {
		t.Error("the restored snapshot has changed")
	}
	if use := synced.Address(netip.MustParseAddr("10.0.0.1")); use == nil || len(use.Services) != 1 {
		t.Errorf("index: %+v", use)
	}
	if after := store.Update(now, func(tx *Txn) { tx.DeleteService(web) }); after != store.Load() || after.Service(web) != nil {
		t.Error("changes after the listing are not visible at once")
	}
}
