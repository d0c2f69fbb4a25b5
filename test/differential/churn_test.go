package differential

import (
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// churnTypes are asked for together, in this order.
var churnTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV}

// TestEveryAnswerBelongsToOneState changes one object after another. While a change is
// on its way every answer must be that of the state before or after it, and once the
// state after has been seen in one answer, the state before must not be seen in the next.
// In between, when all is calm, the answers must be those of the stock plugin.
func TestEveryAnswerBelongsToOneState(t *testing.T) {
	seed := chosenSeed(t)
	w := testWorld(t, []stanza{{name: "churn", zones: kubeadmZones, properties: []string{"pods verified"}}})
	g := newGenerator(seed)
	objects := g.cluster(8)
	if err := w.show(objects); err != nil {
		t.Fatal(err)
	}
	steps := 300
	if testing.Short() {
		steps = 50
	}
	asked, telling := 0, 0
	for range steps {
		next := g.change(objects)
		m := newMoment(t, w, g.pickSome(derive(changed(objects, next)), 25))
		if err := w.publish(next); err != nil {
			t.Fatal(err)
		}
		m.follow()
		if err := w.show(next); err != nil {
			t.Fatal(err)
		}
		objects = next
		telling += m.judge(seed)
		asked += len(m.seen)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d changes, %d answers while they were on their way, %d of them told before from after", steps, asked, telling)
	if telling == 0 {
		t.Error("no answer changed: the test has not tested anything")
	}
}

// changed gives the objects that are not the same in two clusters.
func changed(before, after cluster) cluster {
	c := make(cluster)
	for _, pair := range [][2]cluster{{before, after}, {after, before}} {
		for key, object := range pair[0] {
			if !reflect.DeepEqual(object, pair[1][key]) {
				c[key] = object
			}
		}
	}
	return c
}

// pickSome gives so many of the names that may change.
func (g generator) pickSome(from []string, n int) (some []string) {
	for range n {
		some = append(some, pick(g, from))
	}
	return some
}

// change gives the cluster with one object different; one that has none left begins anew.
func (g generator) change(c cluster) cluster {
	if len(c) == 0 {
		return g.cluster(8)
	}
	next := maps.Clone(c)
	key := pick(g, c.keys())
	switch o := c[key].(type) {
	case *discoveryv1.EndpointSlice:
		fresh := g.slice(key.namespace, o.Labels[discoveryv1.LabelServiceName], false)
		fresh.Name, fresh.Ports, fresh.AddressType = o.Name, o.Ports, o.AddressType
		fresh.Labels = o.Labels
		for i := range fresh.Endpoints {
			fresh.Endpoints[i] = g.endpoint(o.AddressType)
		}
		next.add(fresh)
	case *corev1.Service:
		fresh := g.service()
		fresh.Namespace, fresh.Name, fresh.Labels = o.Namespace, o.Name, o.Labels
		next.add(fresh)
	case *corev1.Namespace:
		delete(next, key)
	default:
		next.add(g.pod())
	}
	switch g.IntN(4) {
	case 0:
		next = maps.Clone(c)
		delete(next, key)
	case 1:
		next = maps.Clone(c)
		next.add(&corev1.Namespace{ObjectMeta: g.meta("", pick(g, namespaceNames))})
	}
	return next
}

// moment is one change and what was answered during it.
type moment struct {
	t       *testing.T
	w       *world
	pair    *pair
	queries []query
	before  []answer
	seen    []seenAnswer
}

// seenAnswer is an answer to the query of that number.
type seenAnswer struct {
	query int
	answer
}

func newMoment(t *testing.T, w *world, list []string) *moment {
	m := &moment{t: t, w: w, pair: w.pairs[0]}
	for _, name := range list {
		for _, qtype := range churnTypes {
			m.queries = append(m.queries, query{name: name, qtype: qtype, tcp: true, client: clients[0]})
		}
	}
	for i := range m.queries {
		m.before = append(m.before, m.ask(i))
	}
	return m
}

func (m *moment) ask(i int) answer {
	reply, err := m.pair.ours.ask(m.queries[i])
	if err != nil {
		m.t.Fatal(err)
	}
	return canonical(reply)
}

// follow asks until the change has arrived.
func (m *moment) follow() {
	deadline := time.Now().Add(barrierTimeout)
	for done := false; !done; {
		done = m.pair.ours.missing(m.w.step) == ""
		for i := range m.queries {
			m.seen = append(m.seen, seenAnswer{i, m.ask(i)})
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the change did not arrive in %s", barrierTimeout)
		}
	}
}

// judge compares what was seen with the states before and after the change. It gives the
// number of answers that tell the two apart.
func (m *moment) judge(seed uint64) (telling int) {
	after := make([]answer, len(m.queries))
	for i := range m.queries {
		after[i] = m.ask(i)
	}
	arrived := false
	for _, s := range m.seen {
		isBefore, isAfter := reflect.DeepEqual(s.answer, m.before[s.query]), reflect.DeepEqual(s.answer, after[s.query])
		switch {
		case !isBefore && !isAfter:
			m.t.Errorf("seed %d: %s: an answer of neither state:\n%sbefore:\n%safter:\n%s", seed, m.queries[s.query], s.answer, m.before[s.query], after[s.query])
			return telling
		case arrived && !isAfter:
			m.t.Errorf("seed %d: %s: the state before, after an answer from the state after:\n%s", seed, m.queries[s.query], s.answer)
			return telling
		case !isBefore:
			arrived = true
		}
		if isBefore != isAfter {
			telling++
		}
	}
	return telling
}
