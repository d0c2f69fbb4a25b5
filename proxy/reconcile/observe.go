package reconcile

import (
	"maps"
	"time"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/drain"
	"github.com/mooring-project/mooring/proxy/plan"
)

// A Round is one turn of the loop that had something to do, as whoever measures sees it.
type Round struct {
	// Before is the snapshot that was planned before, nil if every Service was planned
	// anew; After is the one that is planned now.
	Before, After *state.Snapshot
	Began, Ended  time.Time
	// Done are the operations that were done.
	Done []plan.Op
	// Left are the endpoints that have left in this round.
	Left []drain.Finished
	// Complete is true if nothing is left to be applied.
	Complete bool
	// Err is what went wrong, nil if nothing did.
	Err error
}

// round plans a snapshot and applies what changed.
func (r *Reconciler) round(snapshot *state.Snapshot) (begun Round) {
	r.followSync(snapshot)
	r.followNode(snapshot)
	begun = Round{After: snapshot, Began: time.Now()}
	switch {
	case r.whole():
		begun.Before = r.planned
	case !r.ahead:
		begun.Before = snapshot // what is urgent alone
	}
	r.update(snapshot)
	if r.dirty.Len() > 0 {
		r.pending(begun.Began)
	}
	return begun
}

// pending publishes that something waits, before it is tried: if applying never returns, the
// status says since when.
func (r *Reconciler) pending(now time.Time) {
	status := r.Status()
	if status.PendingSince.IsZero() {
		status.PendingSince = now
		r.status.Store(&status)
	}
}

// observe tells about a round in which something happened.
func (r *Reconciler) observe(round Round, done []plan.Op, err error) {
	behind := r.dirty.Len() > 0
	quiet := len(done) == 0 && err == nil && round.Before == round.After && behind == r.behind
	r.behind = behind
	if r.options.Observe == nil || quiet {
		return
	}
	round.Done, round.Err, round.Ended, round.Complete = done, err, time.Now(), r.complete()
	r.options.Observe(round)
}

// record notes that an operation was done.
func (r *Reconciler) record(op plan.Op) {
	before := r.applied.Len()
	r.applied.Record(op)
	r.kinds[op.Key.Kind] += r.applied.Len() - before
}

// recount counts what the data plane holds from the beginning; kinds of which nothing is left
// stay with 0.
func (r *Reconciler) recount() {
	for kind := range r.kinds {
		r.kinds[kind] = 0
	}
	for key := range r.applied.All() {
		r.kinds[key.Kind]++
	}
}

// counts gives a copy of the numbers of objects, of kinds that there have been.
func (r *Reconciler) counts() map[plan.Kind]int { return maps.Clone(r.kinds) }
