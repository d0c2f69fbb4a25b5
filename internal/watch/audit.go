package watch

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mooring-project/mooring/internal/state"
)

const (
	// defaultAuditInterval is what KubernetesConfig.AuditInterval of 0 means.
	defaultAuditInterval = 10 * time.Minute
	// auditGrace is how long a change may take from the server's answers to the watch.
	auditGrace = 30 * time.Second
	// auditNames is how many objects the log names.
	auditNames = 5
)

// An auditor finds what watches have missed in silence: now and then it lists the keys
// and versions of each kind and compares them with what the kind's ledger has. What
// differs, and differs in the same way after a grace, did not come through the watch, and
// the kind is listed anew. A list that fails, or ends early, proves nothing.
type auditor struct {
	kinds    []*audited
	interval time.Duration
	grace    time.Duration
	logger   *slog.Logger
}

// audited is a kind as an auditor sees it.
type audited struct {
	resource string
	store    *state.Store
	kind     *kind
	ledger   *ledger
	status   *statusBoard
	// wants tells whether objects of a namespace are looked at.
	wants func(namespace string) bool
	// list visits all objects that the server has now; see listWatch.eachListed.
	list func(ctx context.Context, visit func(asOf uint64, object listed)) (asOf uint64, err error)
	// relist makes the kind be listed anew.
	relist func()
	// explain words an error of list.
	explain func(error) error
}

func (l *listWatch) audited() *audited {
	s := l.sink
	return &audited{
		resource: s.kind.resource.Resource, store: s.store, kind: s.kind, ledger: &s.ledger, status: s.status,
		wants: s.wants, list: l.eachListed, relist: l.restart.fire,
		explain: func(err error) error { return l.clients.explain(s.kind, err) },
	}
}

// run audits until ctx ends.
func (a *auditor) run(ctx context.Context) {
	for sleep(ctx, a.interval/2+rand.N(a.interval)) { // so that not all nodes ask at once
		a.round(ctx)
	}
}

// round audits all kinds, one after the other.
func (a *auditor) round(ctx context.Context) {
	suspects := make(map[*audited]map[uint64]uint64)
	for _, kind := range a.kinds {
		if found := a.compare(ctx, kind, nil); found != nil && len(found.differs) > 0 {
			suspects[kind] = found.differs
		}
	}
	if len(suspects) == 0 || !sleep(ctx, a.grace) {
		return
	}
	for _, kind := range a.kinds {
		if suspects[kind] == nil {
			continue
		}
		if found := a.compare(ctx, kind, suspects[kind]); found != nil && len(found.differs) > 0 {
			a.repair(kind, found)
		}
	}
}

// compare lists a kind once. It gives nil if that was not possible; while the watch has
// trouble too, that is the watch's to report.
func (a *auditor) compare(ctx context.Context, kind *audited, suspects map[uint64]uint64) *comparison {
	newest, ready := kind.ledger.begin()
	if !ready || kind.status.failing(kind.resource) {
		return nil
	}
	c := &comparison{
		kind: kind, newest: newest, suspects: suspects, present: make(map[uint64]struct{}), differs: make(map[uint64]uint64),
	}
	asOf, err := kind.list(ctx, c.visit)
	if err != nil {
		if ctx.Err() == nil && !kind.status.failing(kind.resource) {
			a.logger.Warn("audit of the watch", "resource", kind.resource, "err", kind.explain(err))
		}
		return nil
	}
	c.vanished(asOf)
	kind.status.audited(kind.resource, time.Now())
	return c
}

func (a *auditor) repair(kind *audited, found *comparison) {
	a.logger.Warn("the watch has missed changes, listing anew",
		"resource", kind.resource, "objects", len(found.differs), "first", found.names)
	kind.ledger.doubt(len(found.differs))
	kind.relist()
}

// A comparison is what one list of a kind and its ledger do not agree on.
type comparison struct {
	kind *audited
	// newest is the newest version in the ledger before the list was asked for.
	newest uint64
	// suspects is what differed in an earlier comparison: only what still differs, with
	// nothing heard of it since, is a difference in this one. Nil in the first.
	suspects map[uint64]uint64
	// present has the fingerprints of what is in the list.
	present map[uint64]struct{}
	// differs has the version in the ledger, 0 for none, of what is another in the list.
	differs map[uint64]uint64
	// names are the first of the suspects that still differ.
	names []string
}

func (c *comparison) visit(asOf uint64, object listed) {
	if !c.kind.wants(object.key.namespace) {
		return
	}
	of := fingerprint(object.key)
	c.present[of] = struct{}{}
	have := c.kind.ledger.version(of)
	if have != object.version && !c.ahead(have, asOf) && c.note(of, have) {
		c.name(object.key)
	}
}

// vanished notes what the ledger has and a complete list has not.
func (c *comparison) vanished(asOf uint64) {
	gone := make(map[uint64]struct{})
	c.kind.ledger.each(func(of, have uint64) {
		if _, still := c.present[of]; !still && !c.ahead(have, asOf) && c.note(of, have) {
			gone[of] = struct{}{}
		}
	})
	if c.suspects == nil || len(gone) == 0 {
		return
	}
	c.kind.store.Update(time.Now(), func(tx *state.Txn) { // changes nothing: the ledger has no names
		c.kind.kind.each(tx, func(key objectKey) {
			if _, is := gone[fingerprint(key)]; is {
				c.name(key)
			}
		})
	})
}

// ahead tells whether the watch brought a version after the list was made. What it had
// brought before is in the list, unless the server has lost it.
func (c *comparison) ahead(have, asOf uint64) bool {
	return number(have) > max(number(asOf), c.newest)
}

func (c *comparison) note(of, have uint64) bool {
	if c.suspects != nil {
		if before, known := c.suspects[of]; !known || before != have {
			return false
		}
	}
	c.differs[of] = have
	return true
}

func (c *comparison) name(key objectKey) {
	if c.suspects != nil && len(c.names) < auditNames {
		c.names = append(c.names, key.String())
	}
}

// A restart lets one goroutine end what another one does, which then begins anew.
type restart struct {
	// mu guards cancel.
	mu     sync.Mutex
	cancel context.CancelFunc
}

// attempt gives a context that ends with fire, or with ctx.
func (r *restart) attempt(ctx context.Context) (context.Context, context.CancelFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, r.cancel = context.WithCancel(ctx)
	return ctx, r.cancel
}

// fire ends the present attempt, if there is one.
func (r *restart) fire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.cancel()
	}
}

// sleep waits; it gives false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// failing tells whether a kind cannot be read at present.
func (b *statusBoard) failing(kind string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.find(kind).Err != nil
}

// audited notes a complete comparison of a kind with the server.
func (b *statusBoard) audited(kind string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.find(kind).Audited = now
}

// repaired counts objects that the watch of a kind had missed.
func (b *statusBoard) repaired(kind string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.find(kind).Repaired += uint64(n)
}
