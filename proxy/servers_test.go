package proxy

import (
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

func TestEligible(t *testing.T) {
	tests := []struct {
		name     string
		node     *model.Node
		expected bool
		want     bool
	}{
		{"a node as usual", &model.Node{Name: "a", Taints: []string{"dedicated"}}, true, true},
		{"the autoscaler takes it away", &model.Node{Name: "a", Taints: []string{"dedicated", "ToBeDeletedByClusterAutoscaler"}}, true, false},
		{"its deletion has been asked for", &model.Node{Name: "a", Deleting: true}, true, false},
		{"it does not exist", nil, true, false},
		{"it need not exist", nil, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := eligible(test.node, test.expected); got != test.want {
				t.Errorf("eligible %v, want %v", got, test.want)
			}
		})
	}
}

func TestPendingSince(t *testing.T) {
	store, changed, refused := state.NewStore(), time.Unix(1000, 0), time.Unix(900, 0)
	unsynced := store.Update(changed, func(tx *state.Txn) { tx.PutNamespace(&model.Namespace{Name: "a"}) })
	synced := store.Update(changed, func(tx *state.Txn) { tx.SetSynced() })
	tests := []struct {
		name     string
		status   reconcile.Status
		snapshot *state.Snapshot
		want     time.Time
	}{
		{"nothing is known yet", reconcile.Status{}, unsynced, time.Time{}},
		{"a snapshot that the loop has not come to", reconcile.Status{}, synced, changed},
		{"all applied", reconcile.Status{Revision: synced.Revision}, synced, time.Time{}},
		{"something is refused", reconcile.Status{Revision: unsynced.Revision, PendingSince: refused}, synced, refused},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := pendingSince(test.status, test.snapshot); !got.Equal(test.want) {
				t.Errorf("pending since %v, want %v", got, test.want)
			}
		})
	}
}
