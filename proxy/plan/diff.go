package plan

import (
	"cmp"
	"maps"
	"slices"
)

// Verb says what an Op does to its object.
type Verb uint8

// The verbs. Add of something that exists and Delete of something that does not are
// no errors to a data plane: the goal is the state.
const (
	Add Verb = iota + 1
	Update
	Delete
)

// String gives the verb as plans print it.
func (v Verb) String() string {
	switch v {
	case Add:
		return "add"
	case Update:
		return "update"
	default:
		return "delete"
	}
}

// Op is one change of one object. Value is the value to have afterwards; zero for
// Delete.
type Op struct {
	Verb  Verb
	Key   Key
	Value Value
}

// String prints "verb object value".
func (o Op) String() string {
	if o.Verb == Delete {
		return o.Verb.String() + " " + o.Key.String()
	}
	return o.Verb.String() + " " + line(o.Key, o.Value)
}

// addPhase orders what comes into being: first what marks and rewrites, then the
// servers, then what sends traffic to them. A packet that meets a half-done plan thus
// meets the old one.
var addPhase = [...]int{
	PodCIDR: 1, Owned: 1, OwnedMark: 1, Masquerade: 1, KeepSource: 1, Hairpin: 1, FirewallAllow: 1,
	VirtualServer: 2, Firewall: 2, RealServer: 3, Split: 4,
	Pinned: 4, Pin: 4, AffinityTimeout: 4, Affinity: 5, AffinityInside: 5,
	Divert: 5, Drop: 5, DropOutside: 5, Reject: 5, ServiceCIDR: 6, Relay: 6,
}

// phase gives the place of an operation: everything is added and updated before
// anything is taken away, and taken away in the opposite order.
//
// Weight 0 takes something away too. Clients that are kept at an endpoint must have been
// let go before: the virtual server that has it alone would refuse them.
func (o Op) phase() int {
	idle := o.Verb == Update && o.Key.Kind == RealServer && o.Value.Weight == 0
	if o.Verb == Delete || idle {
		return 100 - addPhase[o.Key.Kind]
	}
	return addPhase[o.Key.Kind]
}

// Order sorts operations so that they can be applied one after the other without a
// moment in which traffic meets neither the old nor the new state.
func Order(ops []Op) {
	slices.SortFunc(ops, func(a, b Op) int {
		return cmp.Or(cmp.Compare(a.phase(), b.phase()), a.Key.Compare(b.Key))
	})
}

// Change gives the operation that brings one object from have to want, and false if
// nothing needs to be done. The two flags tell whether the object exists.
func Change(key Key, have Value, inHave bool, want Value, inWant bool) (Op, bool) {
	switch {
	case inWant && !inHave:
		return Op{Verb: Add, Key: key, Value: want}, true
	case inHave && !inWant:
		return Op{Verb: Delete, Key: key}, true
	case inWant && have != want:
		return Op{Verb: Update, Key: key, Value: want}, true
	}
	return Op{}, false
}

// Diff gives the ordered operations that turn have into want.
func Diff(have, want Plan) []Op {
	var ops []Op
	for key, value := range want {
		old, inHave := have[key]
		if op, needed := Change(key, old, inHave, value, true); needed {
			ops = append(ops, op)
		}
	}
	for key := range have {
		if _, inWant := want[key]; !inWant {
			ops = append(ops, Op{Verb: Delete, Key: key})
		}
	}
	Order(ops)
	return ops
}

// Apply gives the plan that results from operations on have; have stays as it is. It
// is the specification of what a data plane does.
func Apply(have Plan, ops []Op) Plan {
	result := maps.Clone(have)
	if result == nil {
		result = Plan{}
	}
	for _, op := range ops {
		result.Record(op)
	}
	return result
}

// Record notes one operation as done.
func (p Plan) Record(op Op) {
	if op.Verb == Delete {
		delete(p, op.Key)
		return
	}
	p[op.Key] = op.Value
}
