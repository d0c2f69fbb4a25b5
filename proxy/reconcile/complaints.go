package reconcile

import (
	"slices"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// complain tells what a Service asks for and does not get, once for as long as it asks for it.
func (r *Reconciler) complain(key model.ServiceKey, entry *state.Service) {
	var problems []plan.Problem
	if entry != nil {
		problems = r.context.Problems(entry)
	}
	for _, p := range problems {
		if slices.Contains(r.complaints[key], p) {
			continue
		}
		if r.options.Complain != nil {
			r.options.Complain(key, p)
		}
		r.options.Logger.Warn("part of a Service has no effect", "service", key, "field", p.Field, "value", p.Value, "reason", p.Reason)
	}
	if len(problems) == 0 {
		delete(r.complaints, key)
		return
	}
	r.complaints[key] = problems
}
