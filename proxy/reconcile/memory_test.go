package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// nothing is a data plane that does what it is told and remembers nothing.
type nothing struct{ Dataplane }

func (nothing) Setup(context.Context) error                               { return nil }
func (nothing) Observe(context.Context) (plan.Plan, error)                { return nil, nil }
func (nothing) Apply(_ context.Context, ops []plan.Op) ([]plan.Op, error) { return ops, nil }

// TestMemoryOfManyServices bounds what the loop needs besides the objects themselves: what is to
// be, and what has been applied.
func TestMemoryOfManyServices(t *testing.T) {
	const services, endpoints = 10000, 5
	// Three objects of each Service and one of each endpoint, twice, and who owns them.
	const objects, most = services * (3 + endpoints), 120
	synctest.Test(t, func(t *testing.T) {
		store := state.NewStore()
		store.Update(time.Now(), func(tx *state.Txn) { fill(tx, services, endpoints) })
		before := live()
		r := New(Options{Store: store, Dataplane: nothing{}, Logger: slog.New(slog.DiscardHandler), Context: nodeContext, DrainTimeout: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait()
		if got := r.applied.Len(); got != objects {
			t.Fatalf("%d objects applied, want %d", got, objects)
		}
		used := live() - before
		t.Logf("%d KiB for %d objects, %d octets each", used>>10, objects, used/objects)
		if used > objects*most {
			t.Errorf("%d octets for each object, want at most %d", used/objects, most)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkColdStart plans and applies everything.
func BenchmarkColdStart(b *testing.B) {
	const services, endpoints = 10000, 5
	store := state.NewStore()
	store.Update(time.Now(), func(tx *state.Txn) { fill(tx, services, endpoints) })
	b.ReportAllocs()
	for b.Loop() {
		r := New(Options{Store: store, Dataplane: nothing{}, Logger: slog.New(slog.DiscardHandler), Context: nodeContext, DrainTimeout: time.Minute})
		r.take(nil)
		for r.planned == nil || !r.queue.empty() {
			r.round(store.Load())
			if _, err := r.apply(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/services, "us/service")
}

// fill puts Services with endpoints on a hundred nodes.
func fill(tx *state.Txn, services, endpoints int) {
	var nodes [100]*model.About
	for i := range nodes {
		nodes[i] = &model.About{Node: fmt.Sprintf("worker-%d", i)}
	}
	for i := range services {
		service := numbered(i)
		s := slice(service)
		for j := range endpoints {
			s.Endpoints = append(s.Endpoints, model.Endpoint{
				Addr:  netip.AddrFrom4([4]byte{10, byte(128 + j), byte(i >> 8), byte(i)}),
				Ready: true, Serving: true, About: nodes[(i*endpoints+j)%len(nodes)],
			})
		}
		tx.PutService(service)
		tx.PutSlice(s)
	}
	tx.SetSynced()
}
