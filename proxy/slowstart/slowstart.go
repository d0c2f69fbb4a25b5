// Package slowstart decides how the weight of an endpoint grows that joins others: an empty cache or
// a cold runtime gets a small share of the new connections first.
//
// It is pure: the time is an argument, and nothing happens by itself. Who has started already is
// not started again: not after a restart of the proxy, which finds the endpoints in place, nor
// when an endpoint returns that was leaving.
package slowstart

import (
	"time"

	"github.com/mooring-project/mooring/proxy/plan"
)

// steps is how many weights an endpoint has until the full one: each costs one operation.
const steps = 10

// Ramps has the real servers that have not got their full weight yet. It is not safe for
// concurrent use.
type Ramps struct {
	// durations are those of virtual servers whose endpoints start slowly.
	durations map[plan.Key]time.Duration
	started   map[plan.Key]time.Time
}

// New gives Ramps without entries.
func New() *Ramps {
	return &Ramps{durations: make(map[plan.Key]time.Duration), started: make(map[plan.Key]time.Time)}
}

// SetDuration says over which time the real servers of a virtual server get their full weight;
// with 0 those that are growing have it from their next Decide on.
func (r *Ramps) SetDuration(server plan.Key, d time.Duration) {
	if d == 0 {
		delete(r.durations, server)
		return
	}
	r.durations[server] = d
}

// Decide gives the value that an object is to have now instead of the one that is wanted. It
// begins with a real server that is new beside others: joins tells that the virtual server is
// there already.
func (r *Ramps) Decide(key plan.Key, inApplied bool, want plan.Value, inWant, joins bool, now time.Time) plan.Value {
	if key.Kind == plan.VirtualServer && !inWant {
		delete(r.durations, key)
	}
	if key.Kind != plan.RealServer {
		return want
	}
	duration := r.durations[key.VirtualServerKey()]
	began, growing := r.started[key]
	switch {
	case !inWant || want.Weight == 0 || duration == 0:
		delete(r.started, key)
		return want
	case !growing && (inApplied || !joins):
		return want
	case !growing:
		began = now
		r.started[key] = now
	}
	step := 1 + int(now.Sub(began)*steps/duration)
	if step >= steps {
		delete(r.started, key)
		return want
	}
	want.Weight = max(1, want.Weight*uint32(step)/steps)
	return want
}

// Next gives the time until the next weight is due; 0 if nobody is growing.
func (r *Ramps) Next(now time.Time) time.Duration {
	var soonest time.Duration
	for key, began := range r.started {
		pace := max(r.durations[key.VirtualServerKey()]/steps, 1)
		wait := max(pace-now.Sub(began)%pace, 1)
		if soonest == 0 || wait < soonest {
			soonest = wait
		}
	}
	return soonest
}

// Growing gives the keys that are to be decided upon again, in no particular order.
func (r *Ramps) Growing() []plan.Key {
	keys := make([]plan.Key, 0, len(r.started))
	for key := range r.started {
		keys = append(keys, key)
	}
	return keys
}
