package proxy

import (
	"context"
	"errors"
	"maps"
	"os"
	"sync"
	"syscall"

	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// failures is a data plane of which what goes wrong is counted, by kind. What went wrong is tried
// again by the loop in any case.
type failures struct {
	reconcile.Dataplane

	// mu guards counts.
	mu     sync.Mutex
	counts map[string]uint64
}

// failureKinds says of which kind an error is: the first that it matches.
var failureKinds = []struct {
	kind string
	is   []error
}{
	{"queue overrun", []error{syscall.ENOBUFS}},
	{"no answer", []error{dataplane.ErrTimeout, os.ErrDeadlineExceeded}},
	{"interrupted", []error{dataplane.ErrInterrupted, syscall.EINTR}},
	{"no memory", []error{syscall.ENOMEM}},
	{"table full", []error{syscall.ENOSPC, syscall.ENFILE, syscall.EMFILE}},
	{"not allowed", []error{os.ErrPermission}},
	{"other", []error{nil}},
}

func newFailures(kernel reconcile.Dataplane) *failures {
	f := &failures{Dataplane: kernel, counts: make(map[string]uint64)}
	for _, k := range failureKinds {
		f.counts[k.kind] = 0
	}
	return f
}

// Counts gives the numbers since the start.
func (f *failures) Counts() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

// note counts an error, unless it is that of a process that ends.
func (f *failures) note(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[failureKind(err)]++
}

func failureKind(err error) string {
	for _, k := range failureKinds {
		for _, target := range k.is {
			if target == nil || errors.Is(err, target) {
				return k.kind
			}
		}
	}
	return ""
}

// Setup implements reconcile.Dataplane.
func (f *failures) Setup(ctx context.Context) error {
	err := f.Dataplane.Setup(ctx)
	f.note(ctx, err)
	return err
}

// Observe implements reconcile.Dataplane.
func (f *failures) Observe(ctx context.Context) (plan.Plan, error) {
	observed, err := f.Dataplane.Observe(ctx)
	f.note(ctx, err)
	return observed, err
}

// ObservePart implements reconcile.Dataplane.
func (f *failures) ObservePart(ctx context.Context, kind plan.Kind, first bool) (plan.Plan, bool, error) {
	part, more, err := f.Dataplane.ObservePart(ctx, kind, first)
	f.note(ctx, err)
	return part, more, err
}

// ObserveElements implements reconcile.Dataplane.
func (f *failures) ObserveElements(ctx context.Context, elements []plan.Key) (plan.Plan, error) {
	observed, err := f.Dataplane.ObserveElements(ctx, elements)
	f.note(ctx, err)
	return observed, err
}

// ObserveServers implements reconcile.Dataplane.
func (f *failures) ObserveServers(ctx context.Context, virtualServers []plan.Key) (plan.Plan, error) {
	observed, err := f.Dataplane.ObserveServers(ctx, virtualServers)
	f.note(ctx, err)
	return observed, err
}

// Connections implements reconcile.Dataplane.
func (f *failures) Connections(ctx context.Context, virtualServers []plan.Key) (map[plan.Key]uint32, error) {
	connections, err := f.Dataplane.Connections(ctx, virtualServers)
	f.note(ctx, err)
	return connections, err
}

// Apply implements reconcile.Dataplane.
func (f *failures) Apply(ctx context.Context, ops []plan.Op) ([]plan.Op, error) {
	done, err := f.Dataplane.Apply(ctx, ops)
	f.note(ctx, err)
	return done, err
}
