package reconcile

import (
	"context"
	"time"
)

// watch listens for signs; without it the audit finds what others do.
func (r *Reconciler) watch(ctx context.Context) {
	r.hears.Store(true)
	defer r.hears.Store(false)
	if err := r.options.Watch(ctx, r.Drifted); err != nil {
		r.options.Logger.Error("changes by others are found by the audit alone", "err", err)
	}
}

// Drifted has the loop set up the data plane again and look for what somebody else has changed;
// what says by which sign that was noticed. It does not block.
func (r *Reconciler) Drifted(what string) {
	select {
	case r.drifted <- what:
	default: // one look finds all
	}
}

// lookAgain sets up the data plane again and begins to look for what is not as it was applied.
func (r *Reconciler) lookAgain(ctx context.Context, sign string) {
	if err := r.options.Dataplane.Setup(ctx); err != nil && ctx.Err() == nil {
		r.options.Logger.Error("data plane not set up again", "sign", sign, "err", err)
	}
	now := time.Now()
	r.audit = newAudit(sign, true, now)
	r.auditOn(ctx, now)
}

// tell logs what somebody else has changed.
func (r *Reconciler) tell(sign string, objects int, first string) {
	r.options.Logger.Warn("somebody else has changed the data plane; it is put right", "sign", sign, "objects", objects, "first", first)
}

// count publishes how many objects somebody else has changed.
func (r *Reconciler) count(objects int) {
	status := r.Status()
	status.Repaired += objects
	r.status.Store(&status)
}
