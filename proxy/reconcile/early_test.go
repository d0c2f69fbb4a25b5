package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// failing is a data plane that cannot do anything for a while.
type failing struct {
	*counted
	// cause is nil when all is well.
	cause atomic.Pointer[error]
	calls atomic.Int32
}

func (f *failing) Apply(ctx context.Context, ops []plan.Op) ([]plan.Op, error) {
	f.calls.Add(1)
	if cause := f.cause.Load(); cause != nil {
		return nil, *cause
	}
	return f.counted.Apply(ctx, ops)
}

// runEarly plays with a loop that begins before everything has been read.
func runEarly(t *testing.T, adopted plan.Plan, play func(t *testing.T, f *fixture, d *failing)) {
	synctest.Test(t, func(t *testing.T) {
		d := &failing{counted: holding(t, adopted)}
		play(t, startWith(t, d.counted, Options{
			Dataplane: d, Logger: slog.New(slog.DiscardHandler), Early: true,
			Observe: func(r Round) {
				if r.Complete && !r.After.Synced {
					t.Error("a round is complete, though not all has been read")
				}
			},
		}), d)
	})
}

func putNode(tx *state.Txn) { tx.PutNode(&model.Node{Name: nodeContext.Place.Node}) }

func TestServicesAreServedWhileTheRestIsRead(t *testing.T) {
	service := web("web", "10.96.0.10")
	cidr := []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
	part := func(tx *state.Txn) { putNode(tx); tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")) }
	runEarly(t, nil, func(t *testing.T, f *fixture, _ *failing) {
		f.commit(part)
		f.wantPlan(t, "half of a list", served)
		if status := f.reconciler.Status(); status.Revision != 0 || !status.PendingSince.IsZero() {
			t.Errorf("half of a list counts as applied, or as late: %+v", status)
		}
		f.dataplane.take()
		f.commit(func(tx *state.Txn) { tx.SetServiceCIDRs(cidr); tx.SetSynced() })
		f.wantPlan(t, "all", served+"service-cidr 10.96.0.0/12\n")
		if ops := f.dataplane.take(); len(ops) != 1 {
			t.Errorf("done when all was read: %v", ops)
		}
		if status := f.reconciler.Status(); status.Revision != f.store.Load().Revision {
			t.Errorf("status %+v", status)
		}
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service)) })
		if ops := f.dataplane.take(); len(ops) == 0 {
			t.Error("nothing is done for a change after the start")
		}
	})
}

func TestNothingIsDoneBeforeEverythingHasBeenRead(t *testing.T) {
	service := web("web", "10.96.0.10")
	all := func(tx *state.Txn) { putNode(tx); tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")) }
	for _, test := range []struct {
		situation string
		adopted   plan.Plan
		read      func(*state.Txn)
	}{
		{"the Node is not known", nil, func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")) }},
		{"no EndpointSlice", nil, func(tx *state.Txn) { putNode(tx); tx.PutService(service) }},
		{"no endpoint", nil, func(tx *state.Txn) { putNode(tx); tx.PutService(service); tx.PutSlice(slice(service)) }},
		{"no Service", nil, func(tx *state.Txn) { putNode(tx); tx.PutSlice(slice(service, "10.244.1.2")) }},
		{"its prefix", nil, func(tx *state.Txn) {
			putNode(tx)
			tx.SetServiceCIDRs([]netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")})
		}},
		{"the kernel holds another Service", fragment(web("api", "10.96.0.20"), "10.244.1.9"), all},
		{"the kernel holds the Service", fragment(service, "10.244.1.9"), all},
	} {
		t.Run(test.situation, func(t *testing.T) {
			runEarly(t, test.adopted, func(t *testing.T, f *fixture, _ *failing) {
				f.commit(test.read)
				pass(time.Hour)
				if ops := f.dataplane.take(); len(ops) != 0 {
					t.Errorf("done: %v", ops)
				}
				f.commit(all)
				f.commit((*state.Txn).SetSynced)
				f.settle(t)
				f.exact(t)
			})
		})
	}
}

// TestWhatGoesWrongEarlyIsLeftToTheWholePlan has the data plane refuse everything for a while.
func TestWhatGoesWrongEarlyIsLeftToTheWholePlan(t *testing.T) {
	put := func(tx *state.Txn, from, to int) {
		putNode(tx)
		for i := from; i < to; i++ {
			service := numbered(i)
			tx.PutService(service)
			tx.PutSlice(slice(service, endpointOf(i)))
		}
	}
	for _, cause := range []error{errors.New("busy"), ErrLost} {
		t.Run(cause.Error(), func(t *testing.T) {
			runEarly(t, nil, func(t *testing.T, f *fixture, d *failing) {
				d.cause.Store(&cause)
				f.commit(func(tx *state.Txn) { put(tx, 0, 20) })
				f.commit(func(tx *state.Txn) { put(tx, 20, 40) })
				if calls := d.calls.Load(); calls != 1 {
					t.Errorf("tried %d times before everything has been read", calls)
				}
				d.cause.Store(nil)
				f.commit(func(tx *state.Txn) { put(tx, 40, 50); tx.SetSynced() })
				f.settle(t)
				f.exact(t)
			})
		})
	}
}

func TestEndpointsThatAreReadLaterDoNotStartSlowly(t *testing.T) {
	service := slowly()
	runEarly(t, nil, func(t *testing.T, f *fixture, _ *failing) {
		for i, address := range []string{"10.244.1.2", "10.244.1.3"} {
			f.commit(func(tx *state.Txn) {
				putNode(tx)
				tx.PutService(service)
				part := slice(service, address)
				part.Name = fmt.Sprint("web-", i)
				tx.PutSlice(part)
			})
			if weight := f.weight(t, address+":8080"); weight != 100 {
				t.Errorf("%s has weight %d, want 100", address, weight)
			}
		}
	})
}

// TestBeginningEarlyEndsTheSame reads random objects, some of which change or go meanwhile, in a
// random order.
func TestBeginningEarlyEndsTheSame(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for n := range 50 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			runEarly(t, nil, func(t *testing.T, f *fixture, _ *failing) {
				readRandomly(f, random)
				f.commit((*state.Txn).SetSynced)
				f.settle(t)
				f.exact(t)
			})
		})
	}
}

// readRandomly commits objects as a source does that reads them, reads some again, and misses some
// the second time.
func readRandomly(f *fixture, random *rand.Rand) {
	const services = 30
	address := func() string { return fmt.Sprintf("10.244.%d.%d", random.IntN(4), 1+random.IntN(200)) }
	steps := []func(*state.Txn){putNode}
	for i := range services {
		service := numbered(i)
		steps = append(steps, func(tx *state.Txn) { tx.PutService(service) })
		for range random.IntN(3) {
			s := slice(service, address(), address())
			s.Name = fmt.Sprint(service.Key.Name, "-", random.IntN(3))
			steps = append(steps, func(tx *state.Txn) { tx.PutSlice(s) })
			if random.IntN(4) == 0 {
				steps = append(steps, func(tx *state.Txn) { tx.DeleteSlice(s.Service.Namespace, s.Name) })
			}
		}
		switch random.IntN(10) {
		case 0:
			steps = append(steps, func(tx *state.Txn) { tx.DeleteService(service.Key) })
		case 1: // it takes the address of another one
			other := numbered(i)
			other.ClusterIPs = numbered(random.IntN(services)).ClusterIPs
			steps = append(steps, func(tx *state.Txn) { tx.PutService(other) })
		case 2:
			steps = append(steps, func(tx *state.Txn) { tx.PutNode(&model.Node{Name: nodeContext.Place.Node, Zone: address()}) })
		}
	}
	random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for part := range slices.Chunk(steps, 1+random.IntN(8)) {
		f.store.Update(time.Now(), func(tx *state.Txn) {
			for _, step := range part {
				step(tx)
			}
		})
		if random.IntN(2) == 0 {
			synctest.Wait()
		}
	}
}
