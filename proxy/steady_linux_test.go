package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// isLong tells whether the long form of a test is wanted (make soak).
func isLong() bool { return os.Getenv("MOORING_SCALE") == "long" }

// scale runs the loop of mooring-proxy on the real kernel beside a number of Services.
type scale struct {
	t         testing.TB
	namespace *netns.Namespace
	store     *state.Store
	kernel    *dataplane.Kernel
	loop      *reconcile.Reconciler
	// rounds brings the rounds that were told.
	rounds chan reconcile.Round
	// turns counts the changes of change.
	turns int
	ear   *ear
	stop  func()
}

func newScale(t testing.TB, adjust func(*reconcile.Options)) *scale {
	t.Helper()
	needKernel(t)
	s := &scale{t: t, namespace: netns.New(t), store: state.NewStore(), rounds: make(chan reconcile.Round, 1<<16)}
	s.namespace.Do(func() {
		kernel, err := dataplane.Open(dataplane.Options{IPv4: true, IPv6: true})
		if err != nil {
			t.Fatal(err)
		}
		s.kernel = kernel
	})
	t.Cleanup(func() { s.kernel.Close() })
	s.ear = newEar(t, s.namespace)
	s.start(adjust)
	t.Cleanup(func() { s.stop() })
	return s
}

func scaleContext() plan.Context {
	return plan.Context{Place: policy.Place{Node: "node-1"}, Scheduler: "rr"}
}

// start runs the loop until stop.
func (s *scale) start(adjust func(*reconcile.Options)) {
	for len(s.rounds) > 0 {
		<-s.rounds // of the loop before
	}
	options := reconcile.Options{
		Store: s.store, Dataplane: split{kernel: s.kernel}, Logger: slog.New(slog.DiscardHandler), DrainTimeout: time.Minute,
		Context: scaleContext(),
		Observe: func(r reconcile.Round) { s.rounds <- r },
	}
	if adjust != nil {
		adjust(&options)
	}
	s.loop = reconcile.New(options)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go s.namespace.Do(func() { ended <- s.loop.Run(ctx) })
	s.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("loop: %v", err)
		}
		s.stop = func() {}
	}
}

// commit changes the objects and waits until the kernel has them; it gives the operations.
func (s *scale) commit(change func(*state.Txn)) (operations int) {
	s.t.Helper()
	revision := s.store.Update(time.Now(), change).Revision
	return s.await(func(r reconcile.Round) bool { return r.Complete && r.After.Revision >= revision })
}

func (s *scale) await(enough func(reconcile.Round) bool) (operations int) {
	s.t.Helper()
	deadline := time.After(10 * time.Minute)
	for {
		select {
		case r := <-s.rounds:
			if r.Err != nil {
				s.t.Fatal(r.Err)
			}
			if operations += len(r.Done); enough(r) {
				return operations
			}
		case <-deadline:
			s.t.Fatal("the kernel does not get there")
		}
	}
}

// numbered gives a Service and its EndpointSlice; its protocol is UDP, whose endpoints leave at once,
// or TCP, whose endpoints drain.
func numbered(i int, protocol model.Protocol, endpoints int) (*model.Service, *model.EndpointSlice) {
	service := &model.Service{
		Key:        model.ServiceKey{Namespace: "default", Name: fmt.Sprintf("svc-%d", i)},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})},
		Ports:      []model.ServicePort{{Protocol: protocol, Port: 80}},
	}
	slice := &model.EndpointSlice{Name: service.Key.Name + "-1", Service: service.Key, Ports: []model.EndpointPort{{Protocol: protocol, Port: 8080}}}
	for j := range endpoints {
		slice.Endpoints = append(slice.Endpoints, model.Endpoint{
			Addr: netip.AddrFrom4([4]byte{10, 128 + byte(j), byte(i >> 8), byte(i)}), Ready: true, Serving: true,
			About: &model.About{Node: fmt.Sprintf("node-%d", j+1)},
		})
	}
	return service, slice
}

// load puts n Services with two endpoints each.
func load(tx *state.Txn, n int) {
	for i := range n {
		service, slice := numbered(i, protocolOf(i), 2)
		tx.PutService(service)
		tx.PutSlice(slice)
	}
	tx.SetSynced()
}

func protocolOf(i int) model.Protocol {
	if i%2 == 1 {
		return model.UDP
	}
	return model.TCP
}

// change is one that is made beside more and more Services. Each leaves the objects as they were
// when the last one has been made.
type change struct {
	name string
	// make changes the objects of a Service that has a number of its own.
	make func(tx *state.Txn, service *model.Service, slice *model.EndpointSlice)
	// drains is true if an endpoint has to have left in the end.
	drains bool
}

var changes = []change{
	{"a Service is added", func(tx *state.Txn, service *model.Service, slice *model.EndpointSlice) {
		tx.PutService(service)
		tx.PutSlice(slice)
	}, false},
	{"an endpoint is added", func(tx *state.Txn, _ *model.Service, slice *model.EndpointSlice) {
		_, more := numbered(changing, slice.Ports[0].Protocol, 3)
		tx.PutSlice(more)
	}, false},
	{"an endpoint is removed", func(tx *state.Txn, _ *model.Service, slice *model.EndpointSlice) { tx.PutSlice(slice) }, true},
	{"a Service is deleted", func(tx *state.Txn, service *model.Service, slice *model.EndpointSlice) {
		tx.DeleteService(service.Key)
		tx.DeleteSlice(slice.Service.Namespace, slice.Name)
	}, true},
}

// changing is the number of the Service that changes.
const changing = 1 << 17

// cost is what a change costs.
type cost struct {
	heard
	operations, calls, execs int
	allocations              uint64
}

func (s *scale) cost(c change, protocol model.Protocol) cost {
	s.t.Helper()
	service, slice := numbered(changing, protocol, 2)
	s.ear.take()
	counted, execs := countCalls(s.t, os.Getpid(), not(ofTheRuntime)), countCalls(s.t, os.Getpid(), only(unix.SYS_EXECVE, unix.SYS_EXECVEAT))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	called, ran := counted.total(), execs.total()
	spent := cost{operations: s.commit(func(tx *state.Txn) { c.make(tx, service, slice) })}
	if c.drains && protocol == model.TCP {
		spent.operations += s.await(func(r reconcile.Round) bool { return r.Complete && s.loop.Status().Draining == 0 })
	}
	runtime.ReadMemStats(&after)
	spent.calls, spent.execs = counted.total()-called, execs.total()-ran
	spent.allocations = after.Mallocs - before.Mallocs
	spent.heard = s.ear.take()
	return spent
}

// repetitions of each change: the least of each count is the change's own, without what the
// runtime of the language does now and then.
const repetitions = 5

func (s *scale) costs(protocol model.Protocol) map[string]cost {
	s.t.Helper()
	result := map[string]cost{}
	for range repetitions {
		for _, c := range changes {
			spent := s.cost(c, protocol)
			best, had := result[c.name]
			if !had {
				result[c.name] = spent
				continue
			}
			best.sent, best.received, best.lists = min(best.sent, spent.sent), min(best.received, spent.received), min(best.lists, spent.lists)
			best.operations, best.calls = min(best.operations, spent.operations), min(best.calls, spent.calls)
			best.execs, best.allocations = max(best.execs, spent.execs), min(best.allocations, spent.allocations)
			result[c.name] = best
		}
	}
	return result
}

// TestTheCostOfAChangeDoesNotGrow makes the same changes beside more and more Services: the
// netlink messages and the system calls are the same, allocations too but for the depth of the trie
// of Services. No program is run, and nothing is listed but the real servers of a virtual server
// with endpoints that are leaving.
func TestTheCostOfAChangeDoesNotGrow(t *testing.T) {
	sizes := []int{100, 1000, 10000}
	if isLong() {
		sizes = append(sizes, 50000)
	}
	least := map[model.Protocol]map[string]cost{}
	for _, size := range sizes {
		s := newScale(t, nil)
		s.commit(func(tx *state.Txn) { load(tx, size) })
		for _, protocol := range []model.Protocol{model.UDP, model.TCP} {
			costs := s.costs(protocol)
			for _, c := range changes {
				got := costs[c.name]
				t.Logf("%6d Services, %s, %s: %+v", size, protocol, c.name, got)
				lists := 0
				if c.drains && protocol == model.TCP {
					lists = 1
				}
				if got.execs != 0 || got.lists != lists {
					t.Errorf("%d Services, %s, %s: %d programs run, %d lists, want none and %d", size, protocol, c.name, got.execs, got.lists, lists)
				}
				if want, known := least[protocol][c.name]; known && !got.atMost(want, sizes[0], size) {
					t.Errorf("%s, %s: beside %d Services %+v, beside %d %+v", protocol, c.name, sizes[0], want, size, got)
				}
			}
			if least[protocol] == nil {
				least[protocol] = costs
			}
		}
		s.stop()
	}
}

// atMost tells whether a cost beside many Services is that beside few, but for the allocations that
// the depth of the trie of Services needs: a level is one branch and its slots, copied.
func (c cost) atMost(few cost, fewServices, services int) bool {
	levels := uint64(len(fmt.Sprint(services)) - len(fmt.Sprint(fewServices)))
	return c.heard == few.heard && c.operations == few.operations && c.calls == few.calls &&
		c.allocations <= few.allocations+4*levels+few.allocations/20
}
