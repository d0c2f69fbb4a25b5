package reconcile

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// slowly is a Service whose endpoints start slowly.
func slowly() *model.Service {
	service := web("web", "10.96.0.10")
	service.Annotations = map[string]string{plan.SchedulerAnnotation: "wrr", plan.SlowStartAnnotation: "20s"}
	return service
}

func (f *fixture) weight(t *testing.T, endpoint string) uint32 {
	t.Helper()
	observed, err := f.dataplane.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return observed[realServer("10.96.0.10", endpoint)].Weight
}

func TestAnEndpointThatJoinsOthersStartsSlowly(t *testing.T) {
	service := slowly()
	run(t, nil, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) {
			tx.PutService(service)
			tx.PutSlice(slice(service, "10.244.1.2", "10.244.1.3"))
			tx.SetSynced()
		})
		if a, b := f.weight(t, "10.244.1.2:8080"), f.weight(t, "10.244.1.3:8080"); a != 100 || b != 100 {
			t.Errorf("the first ones have weights %d and %d, want 100", a, b)
		}
		f.dataplane.take()
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.2", "10.244.1.3", "10.244.1.4")) })
		var weights []uint32
		for range 12 {
			weights = append(weights, f.weight(t, "10.244.1.4:8080"))
			pass(2 * time.Second)
		}
		if diff := cmp.Diff([]uint32{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100, 100}, weights); diff != "" {
			t.Errorf("weights every 2 s (-want +got):\n%s", diff)
		}
		if ops := f.dataplane.take(); len(ops) != 10 {
			t.Errorf("%d operations, want 10: %v", len(ops), ops)
		}
		pass(time.Hour)
		if ops := f.dataplane.take(); len(ops) != 0 {
			t.Errorf("afterwards: %v", ops)
		}
	})
}

func TestAnEndpointThatReturnsHasItsFullWeight(t *testing.T) {
	service := slowly()
	run(t, nil, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) {
			tx.PutService(service)
			tx.PutSlice(slice(service, "10.244.1.2", "10.244.1.3"))
			tx.SetSynced()
		})
		f.dataplane.SetConnections(realServer("10.96.0.10", "10.244.1.3:8080"), 1)
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.2")) })
		if got := f.weight(t, "10.244.1.3:8080"); got != 0 {
			t.Errorf("leaving with weight %d", got)
		}
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.2", "10.244.1.3")) })
		if got := f.weight(t, "10.244.1.3:8080"); got != 100 {
			t.Errorf("returned with weight %d", got)
		}
	})
}
