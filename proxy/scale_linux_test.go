package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// urgent are the Services that everything needs.
func urgent() (names [2]model.ServiceKey, put func(tx *state.Txn, endpoints int)) {
	names = [2]model.ServiceKey{{Namespace: "default", Name: "kubernetes"}, {Namespace: "kube-system", Name: "kube-dns"}}
	return names, func(tx *state.Txn, endpoints int) {
		for i, key := range names {
			service, slice := numbered(1<<17+1+i, model.UDP, endpoints)
			service.Key, slice.Service, slice.Name = key, key, key.Name+"-1"
			tx.PutService(service)
			tx.PutSlice(slice)
		}
	}
}

// wanted gives the plan of a snapshot.
func wanted(snapshot *state.Snapshot) plan.Plan {
	whole, context := plan.NewAssembly(), scaleContext()
	for key, entry := range snapshot.Services() {
		whole.Replace(key, context.Service(entry), entry.Service.ClusterIPs...)
	}
	return whole.Plan()
}

// exact compares the kernel with the plan of the newest snapshot.
func (s *scale) exact() {
	s.t.Helper()
	var observed plan.Plan
	var err error
	s.namespace.Do(func() { observed, err = s.kernel.Observe(s.t.Context()) })
	if err != nil {
		s.t.Fatal(err)
	}
	if diff := plan.Diff(observed, wanted(s.store.Load())); len(diff) > 0 {
		s.t.Errorf("%d objects of the kernel differ, the first one: %s", len(diff), diff[0])
	}
}

// during gives what is heard while f runs, however much that is.
func (e *ear) during(f func()) (all heard) {
	e.t.Helper()
	e.drain()
	var dropped uint32
	add := func() {
		h, d := e.drain()
		all.sent, all.received, all.lists, dropped = all.sent+h.sent, all.received+h.received, all.lists+h.lists, dropped+d
	}
	done, listening := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(listening)
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				add()
			}
		}
	}()
	func() {
		defer func() { close(done); <-listening }() // also if f ends the test
		f()
	}()
	if add(); dropped > 0 {
		e.t.Errorf("%d packets of netlink messages were not heard", dropped)
	}
	return all
}

// floor is what the same operations take when nothing else is done: how long, and which messages.
func floor(t *testing.T, whole plan.Plan) (took time.Duration, messages heard) {
	t.Helper()
	namespace := netns.New(t)
	var kernel *dataplane.Kernel
	var err error
	namespace.Do(func() {
		if kernel, err = dataplane.Open(dataplane.Options{IPv4: true, IPv6: true}); err == nil {
			err = kernel.Setup(t.Context())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	ops := plan.Diff(nil, whole)
	messages = newEar(t, namespace).during(func() {
		began := time.Now()
		namespace.Do(func() { _, err = kernel.Apply(t.Context(), ops) })
		took = time.Since(began)
	})
	if err != nil {
		t.Fatal(err)
	}
	return took, messages
}

// TestManyServices starts beside many Services, lives through a burst of changes, and starts again.
func TestManyServices(t *testing.T) {
	sizes := []int{3000}
	if isLong() {
		sizes = []int{1000, 10000, 50000}
	}
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := newScale(t, nil)
			names, put := urgent()
			s.coldStart(t, size, names, put)
			s.burst(size, put)
			s.restart(size)
			s.audit(size)
		})
	}
}

// coldStart has the loop, which has set up the data plane, find that there are many Services.
func (s *scale) coldStart(t *testing.T, size int, names [2]model.ServiceKey, put func(tx *state.Txn, endpoints int)) {
	t.Helper()
	s.namespace.Do(func() { // waits for the loop's own, which does the same
		if err := s.kernel.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	var first, all time.Duration
	var operations, early int
	messages := s.ear.during(func() {
		revision := s.store.Update(time.Now(), func(tx *state.Txn) { put(tx, 2); load(tx, size) }).Revision
		began := time.Now()
		operations = s.await(func(r reconcile.Round) bool {
			if first == 0 {
				first, early = r.Ended.Sub(began), len(r.Done)
			}
			return r.Complete && r.After.Revision >= revision
		})
		all = time.Since(began)
	})
	s.exact()
	snapshot := s.store.Load()
	whole, context := wanted(snapshot), scaleContext()
	if want := len(context.Service(snapshot.Service(names[0]))) + len(context.Service(snapshot.Service(names[1]))); early != want {
		t.Errorf("%d operations in the first round, want %d, those of %v", early, want, names)
	}
	least, same := floor(t, whole)
	t.Logf("first address after %s, all %d Services after %s, %d operations, netlink %+v; the operations alone take %s, %+v",
		first, size, all, operations, messages, least, same)
	if operations != len(whole) {
		t.Errorf("%d operations, want %d", operations, len(whole))
	}
	if messages.sent-messages.lists > same.sent+same.sent/10+200 {
		t.Errorf("%+v netlink messages; the same operations at once need %+v", messages, same)
	}
}

// burst changes 1000 endpoints in about a second, and in the middle of that an urgent Service.
func (s *scale) burst(size int, put func(tx *state.Txn, endpoints int)) {
	s.t.Helper()
	const changed = 1000
	began, mark := time.Now(), time.Time{}
	var last uint64
	for i := range changed {
		_, slice := numbered(i%size, protocolOf(i%size), 3)
		last = s.store.Update(time.Now(), func(tx *state.Txn) { tx.PutSlice(slice) }).Revision
		if i == changed/2 {
			mark = time.Now()
			last = s.store.Update(mark, func(tx *state.Txn) { put(tx, 3) }).Revision
		}
		if ahead := time.Duration(i)*time.Second/changed - time.Since(began); ahead > 0 {
			time.Sleep(ahead)
		}
	}
	rounds := 0
	var late time.Duration
	address, _ := numbered(1<<17+1, model.UDP, 1)
	operations := s.await(func(r reconcile.Round) bool {
		rounds++
		if slices.ContainsFunc(r.Done, func(op plan.Op) bool { return op.Key.Addr == address.ClusterIPs[0] }) {
			late = r.Ended.Sub(mark)
		}
		return r.Complete && r.After.Revision >= last
	})
	s.t.Logf("%d changes in %s: %d operations in %d rounds; the urgent one after %s", changed, time.Since(began), operations, rounds, late)
	if operations > changed+2 || rounds > changed {
		s.t.Errorf("%d operations in %d rounds for %d changes", operations, rounds, changed+2)
	}
	s.exact()
}

// restart has a second loop find everything as it is to be.
func (s *scale) restart(size int) {
	s.t.Helper()
	s.stop()
	began, operations := time.Now(), 0
	heard := s.ear.during(func() {
		s.start(nil)
		operations = s.await(func(r reconcile.Round) bool { return r.Complete })
	})
	took := time.Since(began)
	s.t.Logf("restart beside %d Services in %s: %d operations, netlink %+v", size, took, operations, heard)
	if operations != 0 {
		s.t.Errorf("%d operations at a restart, want none", operations)
	}
	s.stop()
}

// audit has somebody else delete a real server, and changes go on while it is looked for.
func (s *scale) audit(size int) {
	s.t.Helper()
	s.start(func(o *reconcile.Options) { o.AuditPeriod = time.Second })
	s.await(func(r reconcile.Round) bool { return r.Complete })
	service, slice := numbered(size-1, protocolOf(size-1), 3)
	s.namespace.Do(func() {
		table, err := ipvs.Open(time.Minute, slog.Default())
		if err != nil {
			s.t.Fatal(err)
		}
		defer table.Close()
		key := plan.Key{Kind: plan.RealServer, Protocol: protocolOf(size - 1), Addr: service.ClusterIPs[0], Port: 80}
		key.Endpoint = netip.AddrPortFrom(slice.Endpoints[0].Addr, 8080)
		if err := errors.Join(table.Do(s.t.Context(), plan.Op{Verb: plan.Delete, Key: key})...); err != nil {
			s.t.Fatal(err)
		}
	})
	// An audit takes a tenth of the time, and an emulated machine milliseconds for each Service.
	limit := max(5*time.Minute, time.Duration(size)*30*time.Millisecond)
	harmed, worst, changed := time.Now(), time.Duration(0), 0
	for ; s.loop.Status().Repaired == 0 && time.Since(harmed) < limit; changed++ {
		began := time.Now()
		_, slice := numbered(0, protocolOf(0), 4-changed%2)
		s.commit(func(tx *state.Txn) { tx.PutSlice(slice) })
		worst = max(worst, time.Since(began))
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Logf("an audit beside %d Services found what was missing after %s; the slowest of %d changes meanwhile took %s", size, time.Since(harmed), changed, worst)
	for s.loop.Status().Draining > 0 {
		time.Sleep(50 * time.Millisecond)
	}
	if got := s.loop.Status().Repaired; got != 1 {
		s.t.Errorf("%d objects repaired, want 1", got)
	}
	s.stop()
	s.exact()
}
