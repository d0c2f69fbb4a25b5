package proxy

import (
	"context"
	"errors"

	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// relays starts and stops listeners on the loopback addresses.
type relays interface {
	Apply(op plan.Op) error
}

// split is a data plane made of the kernel and the relays. Relays end with the process, so
// there is never one to observe.
type split struct {
	kernel reconcile.Dataplane
	relays relays
}

// Setup implements reconcile.Dataplane.
func (s split) Setup(ctx context.Context) error { return s.kernel.Setup(ctx) }

// Observe implements reconcile.Dataplane.
func (s split) Observe(ctx context.Context) (plan.Plan, error) { return s.kernel.Observe(ctx) }

// ObservePart implements reconcile.Dataplane.
func (s split) ObservePart(ctx context.Context, kind plan.Kind, first bool) (plan.Plan, bool, error) {
	return s.kernel.ObservePart(ctx, kind, first)
}

// ObserveElements implements reconcile.Dataplane.
func (s split) ObserveElements(ctx context.Context, elements []plan.Key) (plan.Plan, error) {
	return s.kernel.ObserveElements(ctx, elements)
}

// ObserveServers implements reconcile.Dataplane.
func (s split) ObserveServers(ctx context.Context, virtualServers []plan.Key) (plan.Plan, error) {
	return s.kernel.ObserveServers(ctx, virtualServers)
}

// Connections implements reconcile.Dataplane.
func (s split) Connections(ctx context.Context, servers []plan.Key) (map[plan.Key]uint32, error) {
	return s.kernel.Connections(ctx, servers)
}

// Apply implements reconcile.Dataplane: the order of operations puts relays after whatever they
// lead to when they are added, and before it when they are deleted.
func (s split) Apply(ctx context.Context, ops []plan.Op) (done []plan.Op, err error) {
	var errs []error
	for len(ops) > 0 {
		n := run(ops)
		if ops[0].Key.Kind == plan.Relay {
			for _, op := range ops[:n] {
				if err := s.relays.Apply(op); err != nil {
					// Somebody else has the port.
					errs = append(errs, &plan.Refusal{Op: op, Err: err})
					continue
				}
				done = append(done, op)
			}
		} else {
			did, err := s.kernel.Apply(ctx, ops[:n])
			if errors.Is(err, dataplane.ErrNoTable) {
				err = errors.Join(reconcile.ErrLost, err)
			}
			done, errs = append(done, did...), append(errs, err)
		}
		ops = ops[n:]
	}
	return done, errors.Join(errs...)
}

// run gives the number of operations at the front that go to the same part.
func run(ops []plan.Op) int {
	n := 1
	for n < len(ops) && (ops[n].Key.Kind == plan.Relay) == (ops[0].Key.Kind == plan.Relay) {
		n++
	}
	return n
}
