package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"syscall"
	"time"

	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
	"github.com/mooring-project/mooring/test/bench/report"
)

// kernel does what it is told at once and remembers nothing.
type kernel struct{}

func (kernel) Setup(context.Context) error                                   { return nil }
func (kernel) Observe(context.Context) (plan.Plan, error)                    { return nil, nil }
func (kernel) Apply(_ context.Context, ops []plan.Op) ([]plan.Op, error)     { return ops, nil }
func (kernel) ObserveServers(context.Context, []plan.Key) (plan.Plan, error) { return nil, nil }
func (kernel) ObservePart(context.Context, plan.Kind, bool) (plan.Plan, bool, error) {
	return nil, false, nil
}
func (kernel) ObserveElements(context.Context, []plan.Key) (plan.Plan, error) { return nil, nil }
func (kernel) Connections(context.Context, []plan.Key) (map[plan.Key]uint32, error) {
	return nil, nil
}

// figures are what is measured at one size.
type figures struct {
	services, endpoints int
	// objects and plan are octets of the heap.
	objects, plan uint64
	// all is the processor time in which everything is planned.
	all time.Duration
	// median and p99 are seconds of a change, from its commit until it is applied.
	median, p99 float64
	// allocations and octets are those of one change.
	allocations, octets float64
}

func measure(size, endpoints, changes int, seed uint64) (figures, error) {
	f := figures{services: size, endpoints: size * endpoints}
	before := live()
	c, store := newCluster(size, endpoints), state.NewStore()
	c.fill(store)
	f.objects = live() - before
	rounds := make(chan reconcile.Round, 1024)
	loop := reconcile.New(reconcile.Options{
		Store: store, Dataplane: kernel{}, Logger: slog.New(slog.DiscardHandler), DrainTimeout: time.Minute,
		Context: plan.Context{Place: policy.Place{Node: "worker-1"}, Scheduler: "rr"},
		Observe: func(r reconcile.Round) { rounds <- r },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	began := used()
	go func() { ended <- loop.Run(ctx) }()
	for r := range rounds {
		if r.Complete {
			break
		}
	}
	f.all = used() - began
	f.plan = live() - before - f.objects
	random := rand.New(rand.NewPCG(seed, uint64(size)))
	var took []float64
	var start, end runtime.MemStats
	runtime.ReadMemStats(&start)
	for range changes {
		// One endpoint comes, and goes with the next change.
		at := random.IntN(size)
		for _, n := range []int{endpoints + 1, endpoints} {
			slice := c.slice(at, n)
			committed := time.Now()
			revision := store.Update(committed, func(tx *state.Txn) { tx.PutSlice(slice) }).Revision
			for r := range rounds {
				if len(r.Done) < 1 || len(r.Done) > 2 { // the second one is of an endpoint of this node
					cancel()
					return f, errors.Join(fmt.Errorf("%d operations for a change of one endpoint", len(r.Done)), <-ended)
				}
				if r.Complete && r.After.Revision >= revision {
					break
				}
			}
			took = append(took, time.Since(committed).Seconds())
		}
	}
	runtime.ReadMemStats(&end)
	f.allocations = float64(end.Mallocs-start.Mallocs) / float64(len(took))
	f.octets = float64(end.TotalAlloc-start.TotalAlloc) / float64(len(took))
	sorted := report.Column(took, func(s float64) float64 { return s })
	f.median, f.p99 = report.Median(sorted), report.Percentile(sorted, 99)
	cancel()
	return f, <-ended
}

// used gives the processor time of this process.
func used() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // there is no other reason than a wrong argument
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// live gives the octets of the heap that are in use.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
