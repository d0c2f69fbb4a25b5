package reconcile

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-project/mooring/proxy/plan"
)

// Preview gives the ordered operations with which a Reconciler of these options would begin, and
// does none of them. It waits for a synced snapshot. Endpoints that another process is draining
// are as they should be.
func Preview(ctx context.Context, options Options) ([]plan.Op, error) {
	r := New(options)
	observed, err := options.Dataplane.Observe(ctx)
	if err != nil && !errors.Is(err, ErrLost) {
		return nil, err
	}
	r.take(observed)
	r.resume()
	snapshot, err := r.firstUsable(ctx)
	if err != nil {
		return nil, err
	}
	r.ahead = true // with everything else
	r.round(snapshot)
	return r.operations(r.dirty.All(), time.Now()), nil
}
