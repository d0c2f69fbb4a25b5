package reconcile

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/drain"
	"github.com/mooring-project/mooring/proxy/plan"
)

// A DrainStore keeps what is known of leaving endpoints beyond the process.
type DrainStore interface {
	// Load gives what an earlier process has saved, and nothing if there is none.
	Load() (drain.Memory, error)
	Save(memory drain.Memory) error
}

const (
	// rememberPause is the least time between two writes of entries: what is lost by a kill is
	// less than that of an endpoint's time. rememberAgain is the wait after one that went wrong.
	rememberPause = time.Second
	rememberAgain = 30 * time.Second
	// historyLength is how many of the endpoints that have left are kept to be looked at.
	historyLength = 200
)

// Drains are the endpoints that are leaving, those with the first deadline first, and those that
// have left lately, the last one first. The slices are not to be changed.
type Drains struct {
	Leaving []Leaving
	Left    []Left
	// Unsaved is the number of times that they could not be saved since the start.
	Unsaved int
}

// Leaving is an endpoint that takes no new connections and still has old ones.
type Leaving struct {
	drain.Entry
	// Service is the one that its virtual server belongs to; zero if that is no more.
	Service model.ServiceKey
}

// Left is an endpoint that has left at a time.
type Left struct {
	drain.Finished
	Service model.ServiceKey
	At      time.Time
}

// Place says of which Service's virtual server an endpoint is; service is empty if there is none
// any more.
func Place(of model.ServiceKey, key plan.Key) (service, server, endpoint string) {
	if of != (model.ServiceKey{}) {
		service = of.String()
	}
	_, server, _ = strings.Cut(key.VirtualServerKey().String(), " ")
	return service, server, key.Endpoint.String()
}

// memoirs is what the loop notes of its Ledger for others.
type memoirs struct {
	// saved is the revision of the Ledger that was saved last, tried when that was last tried,
	// failing whether it went wrong then.
	saved   drain.Revision
	tried   time.Time
	failing bool
	// drains is what was published last.
	drains Drains
}

// Drains gives the endpoints that are leaving or have left, as of the last round or count.
func (r *Reconciler) Drains() Drains { return *r.drains.Load() }

// resume takes over the Ledger of an earlier process.
func (r *Reconciler) resume() {
	if r.options.Drains == nil {
		return
	}
	memory, err := r.options.Drains.Load()
	if err != nil {
		r.options.Logger.Warn("what an earlier process noted of leaving endpoints is not used; they begin anew", "why", err)
		return
	}
	r.ledger.Resume(memory, r.applied.Get)
	if r.ledger.Len() > 0 {
		r.options.Logger.Info("endpoints go on leaving", "endpoints", r.ledger.Len())
	}
	r.memoirs.saved = r.ledger.Revision()
	r.publishDrains()
}

// remember shows and saves the Ledger if it has changed: at once if it has to be known what leads
// to connections, else at most every rememberPause.
func (r *Reconciler) remember(now time.Time) {
	if wait := r.rememberIn(now); wait < 0 || wait > time.Nanosecond {
		return
	}
	r.saveDrains(now)
}

// rememberIn gives the time until the Ledger is to be saved; negative if it need not be.
func (r *Reconciler) rememberIn(now time.Time) time.Duration {
	revision := r.ledger.Revision()
	if revision == r.memoirs.saved {
		return -1
	}
	pause := rememberPause
	switch {
	case r.memoirs.failing:
		pause = rememberAgain
	case revision.Paths != r.memoirs.saved.Paths:
		return time.Nanosecond
	}
	return max(r.memoirs.tried.Add(pause).Sub(now), time.Nanosecond)
}

func (r *Reconciler) saveDrains(now time.Time) {
	m, revision := &r.memoirs, r.ledger.Revision()
	if revision == m.saved {
		return
	}
	m.tried = now
	if r.options.Drains != nil {
		err := r.options.Drains.Save(r.ledger.Memory())
		r.tellSaved(err)
		if m.failing = err != nil; m.failing {
			m.drains.Unsaved++
		}
	}
	if !m.failing {
		m.saved = revision
	}
	r.publishDrains()
}

// tellSaved logs when saving begins to fail and when that is over.
func (r *Reconciler) tellSaved(err error) {
	switch m := &r.memoirs; {
	case err != nil && !m.failing:
		r.options.Logger.Warn("leaving endpoints are not noted on disk; a start would give them their whole time again", "err", err)
	case err == nil && m.failing:
		r.options.Logger.Info("leaving endpoints are noted on disk again")
	}
}

// publishDrains shows others how the Ledger is.
func (r *Reconciler) publishDrains() {
	entries := r.ledger.Leaving()
	drains := Drains{Leaving: make([]Leaving, len(entries)), Left: r.memoirs.drains.Left, Unsaved: r.memoirs.drains.Unsaved}
	for i, entry := range entries {
		drains.Leaving[i] = Leaving{entry, r.assembly.Owner(entry.Key.VirtualServerKey())}
	}
	r.memoirs.drains = drains
	r.drains.Store(&drains)
}

// enterLeft notes those that have left, for others to look at.
func (r *Reconciler) enterLeft(finished []drain.Finished, now time.Time) {
	left := make([]Left, 0, min(historyLength, len(finished)+len(r.memoirs.drains.Left)))
	for _, f := range finished {
		left = append(left, Left{f, r.assembly.Owner(f.Key.VirtualServerKey()), now})
	}
	left = append(left, r.memoirs.drains.Left...)
	r.memoirs.drains.Left = slices.Clip(left[:min(len(left), historyLength)])
}

// finishDrains counts the connections of the endpoints that are leaving and deletes those
// that have none left or no more time.
func (r *Reconciler) finishDrains(ctx context.Context) {
	if r.ledger.Len() == 0 {
		return
	}
	began := time.Now()
	connections, err := r.options.Dataplane.Connections(ctx, r.ledger.Servers())
	if err != nil {
		r.options.Logger.Error("connections of leaving endpoints not counted", "err", err)
		return
	}
	finished, again := r.ledger.Finish(time.Now(), connections)
	var ops []plan.Op
	for _, f := range finished {
		ops = append(ops, plan.Op{Verb: plan.Delete, Key: f.Key})
		r.options.Logger.Info("endpoint left", "endpoint", f.Key, "since", f.Since, "cut", f.Cut)
	}
	r.enterLeft(finished, began)
	r.publishDrains()
	plan.Order(ops)
	done, err := r.do(ctx, ops)
	if err != nil {
		r.options.Logger.Error("leaving endpoints not deleted", "err", err)
	}
	for _, op := range ops {
		if _, left := r.applied.Get(op.Key); left {
			r.dirty.Add(op.Key)
		}
	}
	r.touch(again)
	r.observe(Round{Before: r.planned, After: r.planned, Began: began, Left: finished}, done, err)
}
