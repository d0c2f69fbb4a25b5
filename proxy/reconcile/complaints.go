package reconcile

import (
	"slices"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// complain logs what a Service asks for and does not get, once for as long as it asks for it.
func (r *Reconciler) complain(key model.ServiceKey, entry *state.Service) {
	var problems []plan.Problem
	if entry != nil {
		problems = r.context.Problems(entry.Service)
	}
	if slices.Equal(problems, r.complaints[key]) {
		return
	}
	for _, p := range problems {
		r.options.Logger.Warn("annotation has no effect", "service", key, "annotation", p.Annotation, "value", p.Value, "reason", p.Reason)
	}
	if len(problems) == 0 {
		delete(r.complaints, key)
		return
	}
	r.complaints[key] = problems
}
