// Package reconcile keeps the data plane equal to the plan: it wakes on a new snapshot,
// plans the Services that changed, compares with what is applied, and applies the
// difference.
//
// Start-up is the same path with everything changed: what the kernel already holds is
// observed first, so that entries that are right are adopted and not rewritten.
package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/drain"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/slowstart"
)

// A Dataplane is what plans are applied to.
type Dataplane interface {
	// Setup makes what does not depend on Services; it may be called at any time.
	Setup(ctx context.Context) error
	// Observe reads back what is there and ours.
	Observe(ctx context.Context) (plan.Plan, error)
	// Apply does ordered operations. It goes on after one that goes wrong and returns
	// those that were done.
	Apply(ctx context.Context, ops []plan.Op) (done []plan.Op, err error)
	// Connections counts the open connections of the real servers of virtual servers,
	// by the real servers' keys.
	Connections(ctx context.Context, virtualServers []plan.Key) (map[plan.Key]uint32, error)
	// ObservePart reads back the next elements of a kind, the first ones if first, and tells whether
	// there are more. If the kind is changed between two parts, elements that are there all the time can
	// be missing from the parts, and those of a part may have gone.
	ObservePart(ctx context.Context, kind plan.Kind, first bool) (part plan.Plan, more bool, err error)
	// ObserveElements reads back those of some elements that exist.
	ObserveElements(ctx context.Context, elements []plan.Key) (plan.Plan, error)
	// ObserveServers reads back some virtual servers, whoever's they are, with their real servers;
	// one that is gone has neither.
	ObserveServers(ctx context.Context, virtualServers []plan.Key) (plan.Plan, error)
}

// ErrLost is what a Dataplane's errors match when somebody has removed what Setup made: nothing
// that was applied can be relied on.
var ErrLost = errors.New("the data plane has been removed by somebody else")

// Options are the parts of a Reconciler.
type Options struct {
	Store     *state.Store
	Dataplane Dataplane
	Logger    *slog.Logger
	// Context is what plans depend on at the start; its Place.Zone follows the Node object.
	Context plan.Context
	// DrainTimeout is how long a leaving TCP endpoint may keep its connections.
	DrainTimeout time.Duration
	// Drains, if not nil, keeps beyond the process what is known of leaving endpoints.
	Drains DrainStore
	// NodeAddresses, if not nil, gives the addresses on which the node serves NodePorts, given
	// its Node object, nil if there is none; Context.NodeAddresses follows it. It is called
	// by the loop in each round, and once more after Recheck.
	NodeAddresses func(*model.Node) []netip.Addr
	// NodePodCIDRs has Context.PodCIDRs follow the Node object (detectLocalMode NodeCIDR).
	NodePodCIDRs bool
	// AuditPeriod is how often the data plane is read back to find what somebody else has
	// changed without a sign; 0 means never.
	AuditPeriod time.Duration
	// Watch, if not nil, is run from the end of the first round on: it gives signs that somebody
	// else has changed the data plane, until ctx ends.
	Watch func(ctx context.Context, sign func(string)) error
	// Early has the loop begin before the source has read everything, if the data plane holds nothing
	// at the start, as after that of a machine. It needs a Node object.
	Early bool
	// Complain, if not nil, is called by the loop with what of a Service has no effect, once for as
	// long as that is so. It has been logged.
	Complain func(model.ServiceKey, plan.Problem)
	// Observe, if not nil, is called by the loop after each round that did something.
	Observe func(Round)
}

const (
	// drainPoll is how often the connections of leaving endpoints are counted.
	drainPoll = time.Second
	// retryFirst and retryLast bound the wait before what went wrong is tried again.
	retryFirst = time.Second
	retryLast  = 30 * time.Second
)

// A Reconciler runs the loop. Its methods other than Run may be called from any goroutine
// at any time.
type Reconciler struct {
	options  Options
	context  plan.Context
	assembly *plan.Assembly
	applied  *plan.Store
	ledger   *drain.Ledger
	memoirs  memoirs
	ramps    *slowstart.Ramps
	// planned is the snapshot that the assembly is the plan of: of all its Services if it is
	// usable, otherwise of those with which the loop has begun.
	planned *state.Snapshot
	// found is what the kernel held at first; nil from the first synced snapshot on.
	found *found
	// anew has every Service planned in the next round.
	anew bool
	// ahead is true once what is urgent has been planned before everything else.
	ahead bool
	// dirty are the objects that may not be as they are to be: those in the queue, and those
	// with which something went wrong.
	dirty *plan.Keys
	// refused are those of them that the data plane does not take.
	refused map[plan.Key]struct{}
	// news is whether the last round found another one.
	news   bool
	queue  queue
	credit credit
	// urgent are the Services that go first.
	urgent map[model.ServiceKey]struct{}
	// complaints are the problems of Services that have been told.
	complaints map[model.ServiceKey][]plan.Problem
	kinds      map[plan.Kind]int
	// retry is the wait before what went wrong is tried again, at retryAt.
	retry   time.Duration
	retryAt time.Time
	// held is true if the queue waits for that too.
	held bool
	// pollAt is when the connections of leaving endpoints are counted.
	pollAt  time.Time
	recheck chan struct{}
	// drifted brings signs that somebody else has changed the data plane; audited is when it
	// was last read back, audit what is going on of that.
	drifted chan string
	audited time.Time
	// audits counts the periodic ones; hears is true while Watch listens.
	audits int
	hears  atomic.Bool
	audit  *audit
	// behind is whether the last round that was told left something to do.
	behind bool

	status atomic.Pointer[Status]
	drains atomic.Pointer[Drains]
}

// Status is what the loop last achieved.
type Status struct {
	// Revision is that of the newest snapshot whose plan has been applied without an
	// error; Applied is when. Both are zero before the first time.
	Revision uint64
	Applied  time.Time
	// PendingSince is the time since which something has been waiting to be applied;
	// zero when nothing is.
	PendingSince time.Time
	// Objects are the numbers of objects in the data plane; the map is not to be
	// changed. Draining is the number of real servers that are leaving.
	Objects  map[plan.Kind]int
	Draining int
	// Repaired is the number of objects that somebody else has changed since the start.
	Repaired int
	// Err is what went wrong in the last round, nil if nothing did.
	Err error
}

// New gives a Reconciler that does nothing until Run.
func New(options Options) *Reconciler {
	r := &Reconciler{
		options:    options,
		context:    options.Context,
		assembly:   plan.NewAssembly(),
		ledger:     drain.NewLedger(options.DrainTimeout),
		ramps:      slowstart.New(),
		dirty:      plan.NewKeys(),
		refused:    make(map[plan.Key]struct{}),
		urgent:     make(map[model.ServiceKey]struct{}),
		credit:     credit{left: creditFull},
		complaints: make(map[model.ServiceKey][]plan.Problem),
		kinds:      make(map[plan.Kind]int),
		recheck:    make(chan struct{}, 1),
		drifted:    make(chan string, 1),
	}
	r.context.Marks = plan.NewMarks()
	r.status.Store(&Status{})
	r.drains.Store(&Drains{})
	return r
}

// Status gives what the loop last achieved.
func (r *Reconciler) Status() Status { return *r.status.Load() }

// Run sets up the data plane, waits for a usable snapshot, and keeps the data plane equal to the
// newest one until ctx ends. It returns an error only if the data plane cannot be set up and
// observed at the start.
func (r *Reconciler) Run(ctx context.Context) error {
	if err := r.adopt(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what was interrupted did not go wrong
		}
		return err
	}
	r.resume()
	defer func() { r.saveDrains(time.Now()) }()
	if r.options.Early && r.applied.Len() == 0 {
		r.begin(ctx)
	}
	snapshot, err := r.firstUsable(ctx)
	if err != nil {
		return nil //nolint:nilerr // ctx ended before there was anything to do
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	for first := true; snapshot != nil; first = false {
		round := r.round(snapshot)
		done, err := r.apply(ctx)
		r.observe(round, done, err)
		if first && r.options.Watch != nil {
			watching.Go(func() { r.watch(ctx) })
		}
		snapshot = r.wait(ctx, snapshot)
	}
	return nil
}

// adopt sets up the data plane, reads back what it holds, and has every object looked at again.
func (r *Reconciler) adopt(ctx context.Context) error {
	if err := r.options.Dataplane.Setup(ctx); err != nil {
		return err
	}
	observed, err := r.options.Dataplane.Observe(ctx)
	if err != nil {
		return err
	}
	r.take(observed)
	r.options.Logger.Info("data plane set up", "found", r.applied.Len())
	return nil
}

// take begins with what the data plane holds, and has every object looked at.
func (r *Reconciler) take(observed plan.Plan) {
	r.applied, r.audited = plan.NewStore(observed), time.Now()
	r.recount()
	r.context.Marks.Adopt(observed)
	if r.planned == nil || !r.planned.Synced {
		r.found, r.anew = newFound(observed), true
	}
	r.queue, r.dirty = queue{}, plan.NewKeys()
	for _, owner := range r.assembly.Owners() {
		r.touchOf(owner, r.assembly.Of(owner))
	}
	if r.planned != nil {
		r.sweep()
	}
}

// sweep has everything looked at that is not as it is to be: what the plan does not have, or has
// otherwise. It has to know the whole plan.
func (r *Reconciler) sweep() {
	var lot []plan.Key
	for key, have := range r.applied.All() {
		want, wanted := r.assembly.Want(key)
		if !wanted || want != have {
			lot = append(lot, key)
		}
	}
	r.touch(lot)
}

// firstUsable waits until a source has listed everything, or what an earlier process knew has been
// restored.
func (r *Reconciler) firstUsable(ctx context.Context) (*state.Snapshot, error) {
	for {
		snapshot := r.options.Store.Load()
		if snapshot.Usable() {
			return snapshot, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-snapshot.Superseded():
		}
	}
}

// wait returns the newest snapshot when there is something to do, nil when ctx has ended.
// Only what is waiting for time, a retry, a drain or the audit, sets a timer: idle means asleep.
func (r *Reconciler) wait(ctx context.Context, snapshot *state.Snapshot) *state.Snapshot {
	if r.queue.empty() {
		r.rest(ctx)
	}
	if r.goesOn() {
		if r.nextWake(time.Now()) == time.Nanosecond {
			r.tick(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		return r.options.Store.Load()
	}
	var timer <-chan time.Time
	if wait := r.nextWake(time.Now()); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return nil
	case <-snapshot.Superseded():
	case <-r.recheck:
	case sign := <-r.drifted:
		r.lookAgain(ctx, sign)
	case <-timer:
		r.tick(ctx)
	}
	return r.options.Store.Load()
}

// goesOn tells whether there is something to do at once.
func (r *Reconciler) goesOn() bool { return !r.held && (!r.queue.empty() || !r.whole()) }

// rest waits until there is credit for a round again, or something urgent has changed.
func (r *Reconciler) rest(ctx context.Context) {
	for {
		wait := r.credit.wait(time.Now())
		newest := r.options.Store.Load()
		if wait == 0 || ctx.Err() != nil || r.urgentDiffers(newest) {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-newest.Superseded():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// urgentDiffers tells whether a Service that goes first is another one than it was planned as.
func (r *Reconciler) urgentDiffers(snapshot *state.Snapshot) bool {
	for key := range r.urgent {
		if r.planned != nil && snapshot.Service(key) != r.planned.Service(key) {
			return true
		}
	}
	return false
}

// tick does what is due though nothing has changed.
func (r *Reconciler) tick(ctx context.Context) {
	now := time.Now()
	if !r.pollAt.IsZero() && !now.Before(r.pollAt) {
		r.finishDrains(ctx)
		r.pollAt = now.Add(drainPoll)
	}
	r.remember(now)
	r.touch(r.ramps.Growing())
	if r.dirty.Len() > 0 && (r.queue.empty() || r.held) && !now.Before(r.retryAt) {
		r.held = false
		if r.queue.empty() {
			r.touch(r.dirty.All())
		}
	}
	r.auditOn(ctx, now)
}

// nextWake gives the time until something is to be done though nothing changes, a nanosecond if it
// is due; 0 for never.
func (r *Reconciler) nextWake(now time.Time) time.Duration {
	wait := time.Duration(0)
	sooner := func(d time.Duration) {
		if d = max(d, time.Nanosecond); wait == 0 || d < wait {
			wait = d
		}
	}
	if at := r.auditAt(); !at.IsZero() {
		sooner(at.Sub(now))
	}
	if r.dirty.Len() > 0 && (r.queue.empty() || r.held) {
		sooner(r.retryAt.Sub(now))
	}
	if !r.pollAt.IsZero() {
		sooner(r.pollAt.Sub(now))
	}
	if next := r.ramps.Next(now); next > 0 {
		sooner(next)
	}
	if next := r.rememberIn(now); next >= 0 {
		sooner(next)
	}
	return wait
}

// update plans what differs between the last planned snapshot and this one, and notes the
// keys that may have changed as dirty. The first time, what is urgent is planned alone, to be
// applied before the rest is planned.
func (r *Reconciler) update(snapshot *state.Snapshot) {
	r.queueUp(r.assembly.Replace(model.ServiceKey{}, r.cluster(snapshot)), true)
	switch {
	case r.whole():
		snapshot.ChangedServices(r.planned, func(key model.ServiceKey, _, after *state.Service) {
			r.replan(key, after)
		})
		r.planned = snapshot
	case !r.ahead:
		r.ahead = true
		for key, entry := range snapshot.Services() {
			if isUrgent(key, entry) {
				r.replan(key, entry)
			}
		}
	default:
		for key, entry := range snapshot.Services() {
			if !r.plannedEarly(key, entry) {
				r.replan(key, entry)
			}
		}
		r.forgetMissing(snapshot)
		r.planned = snapshot
		r.touch(r.assembly.Replace(model.ServiceKey{}, r.cluster(snapshot)))
		r.sweep()
	}
}

// cluster gives what belongs to no Service. The prefixes of Service addresses are not among it before
// every Service has been planned, and they come last then: what a prefix has refused may still be
// served by what kube-proxy has left, also to a connection that there is.
func (r *Reconciler) cluster(snapshot *state.Snapshot) plan.Plan {
	p := r.context.Cluster(snapshot)
	if !r.whole() || !snapshot.Synced {
		maps.DeleteFunc(p, func(key plan.Key, _ plan.Value) bool { return key.Kind == plan.ServiceCIDR })
	}
	return p
}

// placeIn gives the node's place as its Node object says.
func (r *Reconciler) placeIn(snapshot *state.Snapshot) policy.Place {
	place := policy.Place{Node: r.context.Place.Node}
	if node := snapshot.Node(place.Node); node != nil {
		place.Zone = node.Zone
	}
	return place
}

func (r *Reconciler) replan(key model.ServiceKey, entry *state.Service) {
	if entry == nil {
		r.context.Marks.Forget(key)
		delete(r.urgent, key)
	}
	r.replace(key, entry, r.context.Service(entry))
}

// replace makes a fragment the plan of a Service.
func (r *Reconciler) replace(key model.ServiceKey, entry *state.Service, fragment plan.Plan) {
	r.complain(key, entry)
	if entry != nil && isUrgent(key, entry) {
		r.urgent[key] = struct{}{}
	}
	if r.found.overlaps(fragment) {
		return
	}
	var slowStart time.Duration
	if entry != nil {
		slowStart = r.context.SlowStart(entry.Service)
	}
	for object := range fragment {
		if object.Kind == plan.VirtualServer {
			r.ledger.SetTimeout(object, plan.DrainTimeout(entry.Service))
			r.ramps.SetDuration(object, slowStart)
		}
	}
	var own []netip.Addr
	if entry != nil {
		own = entry.Service.ClusterIPs
	}
	r.touchOf(key, r.assembly.Replace(key, fragment, own...))
}

// forgetMissing drops the fragments of Services that are no more, which a plan from the
// beginning does not come across.
func (r *Reconciler) forgetMissing(snapshot *state.Snapshot) {
	for _, owner := range r.assembly.Owners() {
		if owner != (model.ServiceKey{}) && snapshot.Service(owner) == nil {
			r.replan(owner, nil)
		}
	}
}

// touch has objects decided upon that belong together.
func (r *Reconciler) touch(keys []plan.Key) { r.queueUp(keys, false) }

// touchOf does so with those of one Service.
func (r *Reconciler) touchOf(owner model.ServiceKey, keys []plan.Key) {
	_, urgent := r.urgent[owner]
	r.queueUp(keys, urgent || isUrgent(owner, nil))
}

func (r *Reconciler) queueUp(keys []plan.Key, urgent bool) {
	for _, key := range keys {
		r.dirty.Add(key)
	}
	r.queue.add(keys, urgent)
}

// apply brings the next objects of the queue to what they are to be. What goes wrong stays dirty.
func (r *Reconciler) apply(ctx context.Context) (done []plan.Op, err error) {
	now := time.Now()
	ops := r.operations(r.queue.take(), now)
	r.remember(now)
	if len(ops) > 0 {
		done, err = r.do(ctx, ops)
		for _, op := range done {
			r.dirty.Remove(op.Key)
		}
		r.options.Logger.Debug("applied", "operations", len(done), "of", len(ops))
	}
	r.learn(err)
	if r.held = errors.Is(err, ErrLost); r.held {
		r.options.Logger.Warn("data plane is set up again", "err", err)
		err = errors.Join(err, r.adopt(ctx))
	}
	r.report(now, len(done) < len(ops), err)
	r.credit.spend(time.Since(now), time.Now())
	return done, err
}

// do has the data plane do ordered operations and records those that were done.
func (r *Reconciler) do(ctx context.Context, ops []plan.Op) (done []plan.Op, err error) {
	done, err = r.options.Dataplane.Apply(ctx, ops)
	for _, op := range done {
		r.record(op)
	}
	return done, err
}

// operations gives the ordered operations for those of some objects that are dirty and forgets
// those that are as they are to be.
func (r *Reconciler) operations(keys []plan.Key, now time.Time) []plan.Op {
	ops := make([]plan.Op, 0, len(keys))
	decide := func(kind plan.Kind) {
		for _, key := range keys {
			if key.Kind != kind || !r.dirty.Has(key) {
				continue
			}
			if op, needed := r.decide(key, now); needed {
				ops = append(ops, op)
			} else {
				r.dirty.Remove(key)
			}
		}
	}
	// Real servers are decided first: whether what leads to them may go depends on
	// whether they stay to drain.
	decide(plan.RealServer)
	for kind := range plan.Kinds() {
		if kind != plan.RealServer {
			decide(kind)
		}
	}
	plan.Order(ops)
	return slices.CompactFunc(ops, func(a, b plan.Op) bool { return a.Key == b.Key })
}

// decide gives the operation that an object needs.
func (r *Reconciler) decide(key plan.Key, now time.Time) (op plan.Op, needed bool) {
	if r.found.has(key) {
		return op, false
	}
	have, inHave := r.applied.Get(key)
	want, inWant := r.assembly.Want(key)
	want, inWant = r.ledger.Decide(key, have, inHave, want, inWant, now)
	joins := false
	if key.Kind == plan.RealServer {
		_, joins = r.applied.Get(key.VirtualServerKey())
		joins = joins && r.whole()
	}
	want = r.ramps.Decide(key, inHave, want, inWant, joins, now)
	return plan.Change(key, have, inHave, want, inWant)
}

// report publishes the status and, if something was tried in vain, sets the wait before a retry.
func (r *Reconciler) report(now time.Time, inVain bool, err error) {
	status := r.Status()
	status.Objects, status.Draining, status.Err = r.counts(), r.ledger.Len(), err
	switch {
	case r.complete():
		status.Revision, status.Applied, status.PendingSince = r.planned.Revision, now, time.Time{}
		if r.dirty.Len() == 0 {
			r.retry = 0
			r.dirty = plan.NewKeys() // without the room that a burst needed
		}
	case status.PendingSince.IsZero():
		status.PendingSince = now
	}
	last := r.queue.empty() || r.held
	switch {
	case inVain && last:
		r.retry = min(max(2*r.retry, retryFirst), retryLast)
		r.retryAt = now.Add(r.retry)
	case inVain:
		r.retryAt = now.Add(retryFirst)
	}
	switch {
	case r.known(err):
		r.options.Logger.Debug("still not taken by the data plane", "objects", len(r.refused), "err", err)
	case inVain && last:
		r.options.Logger.Error("data plane is behind the plan", "objects", r.dirty.Len(), "retry", r.retry, "err", err)
	case err != nil:
		r.options.Logger.Error("part of the plan is not applied", "err", err)
	}
	switch {
	case r.ledger.Len() == 0:
		r.pollAt = time.Time{}
	case r.pollAt.IsZero():
		r.pollAt = now.Add(drainPoll)
	}
	r.status.Store(&status)
}
