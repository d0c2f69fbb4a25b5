package reconcile

import (
	"maps"

	"github.com/mooring-project/mooring/proxy/plan"
)

// known tells whether an error says nothing but what has been logged: once is enough for what
// cannot be.
func (r *Reconciler) known(err error) bool {
	return err != nil && r.dirty.Len() == len(r.refused) && !r.anew && !r.news
}

// learn notes which objects the data plane does not take. They are tried again from time to time,
// but nothing waits for them: one Service with an endpoint that cannot be one must not make the
// whole node look ill. Services whose scheduler it lacks get the default one.
func (r *Reconciler) learn(err error) {
	r.news = false
	for _, refusal := range plan.Refusals(err) {
		scheduler := refusal.Op.Value.Scheduler
		if refusal.NoScheduler && scheduler != r.context.Scheduler && !r.context.LacksScheduler[scheduler] {
			lacks := maps.Clone(r.context.LacksScheduler)
			if lacks == nil {
				lacks = make(map[string]bool)
			}
			lacks[scheduler] = true
			r.context.LacksScheduler, r.anew = lacks, true
		}
		if _, known := r.refused[refusal.Op.Key]; !refusal.NoScheduler && !known {
			r.refused[refusal.Op.Key], r.news = struct{}{}, true
		}
	}
	maps.DeleteFunc(r.refused, func(key plan.Key, _ struct{}) bool {
		return !r.dirty.Has(key)
	})
}

// complete tells whether the newest planned snapshot is applied, but for what the data plane does
// not take.
func (r *Reconciler) complete() bool {
	return r.whole() && r.dirty.Len() == len(r.refused) && !r.anew
}
