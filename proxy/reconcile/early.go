package reconcile

import (
	"context"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// Reading all objects of a large cluster takes longer than anything else that a start has to do. After
// the start of a machine nobody is served meanwhile, so Services are put into the data plane as they
// are read. What has been read proves nothing about what has not: nothing is refused yet, and there is
// nothing that could be deleted.

// whole tells whether every Service of a snapshot has been planned.
func (r *Reconciler) whole() bool { return r.planned != nil && r.planned.Usable() }

// begin serves Services as they are read, until everything has been. Before the Node object is known,
// which endpoints are for this node is not. What goes wrong is left to the first whole plan.
func (r *Reconciler) begin(ctx context.Context) {
	for ctx.Err() == nil {
		snapshot := r.options.Store.Load()
		if snapshot.Usable() {
			return
		}
		if snapshot.Node(r.context.Place.Node) != nil {
			r.found, r.anew = nil, false // nothing was found that would have to be spared
			if err := r.beginWith(ctx, snapshot); err != nil {
				return
			}
		}
		if !r.queue.empty() {
			continue
		}
		select {
		case <-ctx.Done():
		case <-snapshot.Superseded():
		}
	}
}

// beginWith plans what has been read since the last time, and applies a round of it.
func (r *Reconciler) beginWith(ctx context.Context, snapshot *state.Snapshot) error {
	round := Round{Before: snapshot, After: snapshot, Began: time.Now()}
	r.followNode(snapshot)
	r.queueUp(r.assembly.Replace(model.ServiceKey{}, r.cluster(snapshot)), true)
	if r.planned == nil {
		r.planned = new(state.Snapshot)
	}
	snapshot.ChangedServices(r.planned, func(key model.ServiceKey, _, after *state.Service) {
		r.planEarly(key, after)
	})
	r.planned = snapshot
	done, err := r.do(ctx, r.operations(r.queue.take(), round.Began))
	for _, op := range done {
		r.dirty.Remove(op.Key)
	}
	r.observe(round, done, err)
	return err
}

// planEarly plans a Service once an endpoint of it has been read.
func (r *Reconciler) planEarly(key model.ServiceKey, entry *state.Service) {
	switch {
	case r.assembly.Has(key):
		r.replan(key, entry)
	case entry != nil && len(entry.Slices) > 0:
		if fragment := r.context.Service(entry); serves(fragment) {
			r.replace(key, entry, fragment)
		}
	}
}

// serves tells whether there is an endpoint in the plan of a Service.
func serves(fragment plan.Plan) bool {
	for key := range fragment {
		if key.Kind == plan.RealServer {
			return true
		}
	}
	return false
}

// plannedEarly tells whether a Service has been planned as it is while everything was being read.
func (r *Reconciler) plannedEarly(key model.ServiceKey, entry *state.Service) bool {
	return r.planned != nil && r.planned.Service(key) == entry && r.assembly.Has(key)
}
