package reconcile

import (
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// perRound is how many objects a round decides upon, unless a single Service has more: so what is
// urgent never waits for more than such a round.
const perRound = 2000

// A queue has the objects that are to be decided upon, in lots of what belongs together: all that
// the change of one Service touches. What is urgent goes first, the rest in its order.
type queue struct {
	urgent, others [][]plan.Key
}

func (q *queue) add(lot []plan.Key, urgent bool) {
	switch {
	case len(lot) == 0:
	case urgent:
		q.urgent = append(q.urgent, lot)
	default:
		q.others = append(q.others, lot)
	}
}

func (q *queue) empty() bool { return len(q.urgent)+len(q.others) == 0 }

// take gives the objects of the next round.
func (q *queue) take() []plan.Key {
	var keys []plan.Key
	for _, lot := range q.urgent {
		keys = append(keys, lot...)
	}
	q.urgent = nil
	n := 0
	for n < len(q.others) && (len(keys) == 0 || len(keys)+len(q.others[n]) <= perRound) {
		keys = append(keys, q.others[n]...)
		q.others[n] = nil
		n++
	}
	if q.others = q.others[n:]; len(q.others) == 0 {
		q.others = nil // and the room that a burst needed
	}
	return keys
}

// Services that everything else in a cluster needs: the API and the name service.
const (
	apiNamespace, apiName = "default", "kubernetes"
	dnsNamespace, dnsName = "kube-system", "kube-dns"
	dnsSelector           = "k8s-app=kube-dns"
)

// isUrgent tells whether a Service is the API's or the name service's: by its usual name, or by
// the usual label of its pods.
func isUrgent(key model.ServiceKey, entry *state.Service) bool {
	switch {
	case key.Namespace == apiNamespace && key.Name == apiName:
		return true
	case key.Namespace != dnsNamespace:
		return false
	}
	return key.Name == dnsName || entry != nil && entry.Service.Selector == dnsSelector
}
