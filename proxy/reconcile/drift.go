package reconcile

import (
	"context"
	"time"

	"github.com/mooring-project/mooring/proxy/plan"
)

// watch listens for signs; without it the audit finds what others do.
func (r *Reconciler) watch(ctx context.Context) {
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

// lookAgain sets up the data plane again and puts right what is not as it was applied.
func (r *Reconciler) lookAgain(ctx context.Context, sign string) {
	if err := r.options.Dataplane.Setup(ctx); err != nil && ctx.Err() == nil {
		r.options.Logger.Error("data plane not set up again", "sign", sign, "err", err)
	}
	if r.audit(ctx, sign) == 0 {
		// What was changed is not an object of ours: a rule, a chain.
		r.tell(sign, 1, "what does not depend on Services")
	}
}

// audit reads the data plane back. What is not as it was applied becomes dirty, and is put right
// in the next round; the number of such objects is told.
func (r *Reconciler) audit(ctx context.Context, sign string) int {
	r.audited = time.Now()
	observed, err := r.options.Dataplane.Observe(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.options.Logger.Error("data plane not audited", "sign", sign, "err", err)
		}
		return 0
	}
	found := differences(r.applied, observed)
	var told []plan.Op
	for _, op := range found {
		if _, waiting := r.dirty[op.Key]; !waiting {
			told = append(told, op)
		}
		r.record(op)
		r.dirty[op.Key] = struct{}{}
	}
	r.lost(found)
	if len(told) > 0 {
		r.tell(sign, len(told), told[0].String())
	}
	return len(told)
}

// tell logs and counts what somebody else has changed.
func (r *Reconciler) tell(sign string, objects int, first string) {
	r.options.Logger.Warn("somebody else has changed the data plane; it is put right", "sign", sign, "objects", objects, "first", first)
	status := r.Status()
	status.Repaired += objects
	r.status.Store(&status)
}

// differences tells what has happened to a data plane since it was as applied. Relays are sockets
// of this process, which nobody else changes.
func differences(applied, observed plan.Plan) []plan.Op {
	var happened []plan.Op
	for _, op := range plan.Diff(applied, observed) {
		if op.Key.Kind != plan.Relay {
			happened = append(happened, op)
		}
	}
	return happened
}

// auditIn gives the time until the next audit; 0 if there is none.
func (r *Reconciler) auditIn(now time.Time) time.Duration {
	if r.options.AuditPeriod == 0 {
		return 0
	}
	return max(r.audited.Add(r.options.AuditPeriod).Sub(now), time.Nanosecond)
}
