package reconcile

import (
	"context"
	"slices"
	"time"

	"github.com/mooring-project/mooring/proxy/plan"
)

const (
	// auditStep is how long an audit reads before it lets changes go first; auditShare is for how many
	// times as long it then pauses.
	auditStep  = 10 * time.Millisecond
	auditShare = 9
	// auditServers and auditElements are how many virtual servers and single elements an audit reads
	// without a look at the time.
	auditServers, auditElements = 16, 64
	// auditAll says which periodic audit looks at what the kernel announces changes of, too: one of so
	// many, as long as it is listened to.
	auditAll = 10
	// signPeriodic is the sign of an audit without one.
	signPeriodic = "audit"
)

// An audit reads the data plane back, a little at a time: first each kind of object that is an element
// of a set, then each virtual server with its real servers. Changes go before its steps.
//
// A set that changes while it is listed may be listed wrongly. So the list only says which elements to
// look at; what is told as somebody else's work is what one of these is found to be.
//
// Virtual servers are never listed: the kernel would give all there are, also those of others, and
// changes would wait. Ours are those that have been applied, and those that the sets record as ours.
type audit struct {
	sign string
	// kinds and servers are what it has not read yet; seen has the elements of the first kind that
	// have been read, nil before its first part; suspects are elements to be looked at one by one.
	kinds    []plan.Kind
	seen     *plan.Keys
	suspects []plan.Key
	servers  []plan.Key
	listed   bool
	// at is when the next step is due.
	at time.Time
	// objects and first are what was found.
	objects int
	first   string
}

// newAudit gives an audit of everything, or of what changes without an announcement alone.
func newAudit(sign string, all bool, now time.Time) *audit {
	a := &audit{sign: sign, at: now}
	for kind := range plan.Kinds() {
		// Servers come after the kinds; relays are sockets of this process, which nobody else changes.
		if all && kind != plan.VirtualServer && kind != plan.RealServer && kind != plan.Relay {
			a.kinds = append(a.kinds, kind)
		}
	}
	return a
}

// periodicAudit gives the audit that is due.
func (r *Reconciler) periodicAudit(now time.Time) *audit {
	r.audits++
	return newAudit(signPeriodic, !r.hears.Load() || r.audits%auditAll == 0, now)
}

// auditAt gives when something of an audit is due; zero if never.
func (r *Reconciler) auditAt() time.Time {
	switch {
	case r.audit != nil:
		return r.audit.at
	case r.options.AuditPeriod == 0:
		return time.Time{}
	}
	return r.audited.Add(r.options.AuditPeriod)
}

// auditOn makes the step of an audit that is due, if one is. What is not as it was applied becomes
// dirty, and is put right in the next round.
func (r *Reconciler) auditOn(ctx context.Context, now time.Time) {
	if at := r.auditAt(); at.IsZero() || now.Before(at) {
		return
	}
	if r.audit == nil {
		r.audit = r.periodicAudit(now)
	}
	a := r.audit
	more := true
	for more && time.Since(now) < auditStep {
		var err error
		if more, err = r.auditNext(ctx, a); err != nil {
			if ctx.Err() == nil {
				r.options.Logger.Error("data plane not audited", "sign", a.sign, "err", err)
			}
			r.audit, r.audited = nil, now
			return
		}
	}
	if more {
		// A sign is followed at once, which is once each round.
		if a.at = time.Now(); a.sign == signPeriodic {
			a.at = a.at.Add(auditShare * time.Since(now))
		}
		return
	}
	r.audit, r.audited = nil, now
	switch {
	case a.objects > 0:
		r.tell(a.sign, a.objects, a.first)
	case a.sign != signPeriodic:
		// What was changed is not an object of ours: a rule, a chain.
		r.count(1)
		r.tell(a.sign, 1, "what does not depend on Services")
	}
}

// auditNext compares the next part of what there is; more is false after the last one.
func (r *Reconciler) auditNext(ctx context.Context, a *audit) (more bool, err error) {
	switch {
	case len(a.suspects) > 0:
		n := min(auditElements, len(a.suspects))
		suspects := a.suspects[:n]
		a.suspects = a.suspects[n:]
		err = r.auditSuspects(ctx, a, suspects)
	case len(a.kinds) > 0:
		err = r.auditPart(ctx, a, a.kinds[0])
	case !a.listed:
		a.servers, a.listed = r.ours(), true
	case len(a.servers) > 0:
		n := min(auditServers, len(a.servers))
		part := a.servers[:n]
		a.servers = a.servers[n:]
		err = r.auditServers(ctx, a, part)
	}
	return len(a.suspects) > 0 || len(a.kinds) > 0 || !a.listed || len(a.servers) > 0, err
}

// ours gives the virtual servers that are ours.
func (r *Reconciler) ours() []plan.Key {
	ours := make([]plan.Key, 0, r.kinds[plan.VirtualServer])
	for key := range r.applied.OfKind(plan.VirtualServer, plan.Owned, plan.OwnedMark) {
		server := key.VirtualServerKey()
		if _, applied := r.applied.Get(server); key.Kind == plan.VirtualServer || !applied {
			ours = append(ours, server)
		}
	}
	return ours
}

// isOurs tells whether a virtual server has been applied or, though it has not, is recorded as ours.
func (r *Reconciler) isOurs(server plan.Key) bool {
	_, applied := r.applied.Get(server)
	_, recorded := r.applied.Get(server.OwnedKey())
	return applied || recorded
}

// auditPart compares the next elements of a kind. Those that are not as they were applied, and those that
// have not been among them in the end, are suspect alone: changes go on meanwhile.
func (r *Reconciler) auditPart(ctx context.Context, a *audit, kind plan.Kind) error {
	part, more, err := r.options.Dataplane.ObservePart(ctx, kind, a.seen == nil)
	if err != nil {
		return err
	}
	if a.seen == nil {
		a.seen = plan.NewKeys()
	}
	for key, value := range part {
		a.seen.Add(key)
		if applied, is := r.applied.Get(key); !is || applied != value {
			a.suspects = append(a.suspects, key)
		}
	}
	if more {
		return nil
	}
	if r.kinds[kind] > 0 {
		for key := range r.applied.OfKind(kind) {
			if !a.seen.Has(key) {
				a.suspects = append(a.suspects, key)
			}
		}
	}
	a.kinds, a.seen = a.kinds[1:], nil
	return nil
}

// auditSuspects looks at elements one by one, between two changes: what is not as it was applied is
// somebody else's work.
func (r *Reconciler) auditSuspects(ctx context.Context, a *audit, suspects []plan.Key) error {
	observed, err := r.options.Dataplane.ObserveElements(ctx, suspects)
	if err != nil {
		return err
	}
	applied := plan.Plan{}
	for _, key := range suspects {
		if value, is := r.applied.Get(key); is {
			applied[key] = value
		}
	}
	r.happened(a, plan.Diff(applied, observed))
	return nil
}

// auditServers compares some virtual servers, and their real servers: those that are there, those
// that are wanted, and those that are leaving.
func (r *Reconciler) auditServers(ctx context.Context, a *audit, servers []plan.Key) error {
	// What another software has made at a place that was ours when the audit began is not ours.
	servers = slices.DeleteFunc(servers, func(key plan.Key) bool { return !r.isOurs(key) })
	observed, err := r.options.Dataplane.ObserveServers(ctx, servers)
	if err != nil {
		return err
	}
	r.happened(a, plan.Diff(r.servers(servers, observed), observed))
	return nil
}

// servers gives virtual servers, with the real servers that they are to have now, as applied.
func (r *Reconciler) servers(virtualServers []plan.Key, observed plan.Plan) plan.Plan {
	applied := plan.Plan{}
	note := func(key plan.Key) {
		if value, is := r.applied.Get(key); is {
			applied[key] = value
		}
	}
	for key := range observed {
		note(key)
	}
	if r.found != nil { // which the plan need not have
		for key := range r.applied.OfKind(plan.RealServer) {
			if slices.Contains(virtualServers, key.VirtualServerKey()) {
				note(key)
			}
		}
	}
	for _, server := range virtualServers {
		note(server)
		for key := range r.assembly.RealServers(server) {
			note(key)
		}
		for key := range r.ledger.LeavingOf(server) {
			note(key)
		}
	}
	return applied
}

// happened notes what somebody else has done.
func (r *Reconciler) happened(a *audit, ops []plan.Op) {
	if len(ops) == 0 {
		return
	}
	objects := 0
	keys := make([]plan.Key, 0, len(ops))
	for _, op := range ops {
		if !r.dirty.Has(op.Key) {
			objects++
			if a.first == "" {
				a.first = op.String()
			}
		}
		r.record(op)
		keys = append(keys, op.Key)
	}
	a.objects += objects
	r.count(objects)
	r.touch(keys)
	r.lost(ops)
}
