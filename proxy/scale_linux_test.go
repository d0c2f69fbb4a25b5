package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
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
			s.audits(size)
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
}

// waits are how long changes took, sorted.
type waits []time.Duration

// of gives the wait that a share of the changes does not exceed.
func (w waits) of(share float64) time.Duration { return w[int(share*float64(len(w)-1))] }

// over gives how many waits are longer.
func (w waits) over(most time.Duration) (count int) {
	for _, wait := range w {
		if wait > most {
			count++
		}
	}
	return count
}

func (w waits) String() string {
	return fmt.Sprintf("of %d changes p50 %s p99 %s, the slowest %s", len(w), w.of(0.5).Round(time.Microsecond), w.of(0.99).Round(time.Microsecond), w.of(1).Round(time.Microsecond))
}

// change makes one change after the other for as long as there are to be more, and tells how long each took.
func (s *scale) change(more func(made int) bool) (took waits) {
	s.t.Helper()
	for len(took) == 0 || more(len(took)) {
		began := time.Now()
		s.turns++
		_, slice := numbered(0, protocolOf(0), 3+s.turns%2)
		s.commit(func(tx *state.Txn) { tx.PutSlice(slice) })
		took = append(took, time.Since(began))
		time.Sleep(50 * time.Millisecond)
	}
	slices.Sort(took)
	return took
}

// watched is a data plane that counts the parts of sets that are read.
type watched struct {
	reconcile.Dataplane
	parts atomic.Int64
}

func (w *watched) ObservePart(ctx context.Context, kind plan.Kind, first bool) (plan.Plan, bool, error) {
	w.parts.Add(1)
	return w.Dataplane.ObservePart(ctx, kind, first)
}

// harm is what somebody else does to some Services: deletes a real server of one and a virtual server of
// another, has a third balance in another way, and, if elements too, deletes that a fourth is diverted.
// It gives how many objects that are.
func (s *scale) harm(services [4]int, elements bool) (objects int) {
	s.t.Helper()
	var virtual [4]plan.Key
	for i, n := range services {
		service, _ := numbered(n, protocolOf(n), 0)
		virtual[i] = plan.Key{Kind: plan.VirtualServer, Protocol: protocolOf(n), Addr: service.ClusterIPs[0], Port: 80}
	}
	real, divert := virtual[0], virtual[3]
	_, slice := numbered(services[0], protocolOf(services[0]), 1)
	real.Kind, real.Endpoint = plan.RealServer, netip.AddrPortFrom(slice.Endpoints[0].Addr, 8080)
	for key := range wanted(s.store.Load()) {
		if key.Kind == plan.RealServer && key.VirtualServerKey() == virtual[1] {
			objects++ // which go with it
		}
	}
	s.namespace.Do(func() {
		table, err := ipvs.Open(time.Minute, slog.Default())
		if err != nil {
			s.t.Fatal(err)
		}
		defer table.Close()
		if err := errors.Join(table.Do(s.t.Context(), plan.Op{Verb: plan.Delete, Key: real}, plan.Op{Verb: plan.Delete, Key: virtual[1]},
			plan.Op{Verb: plan.Update, Key: virtual[2], Value: plan.Value{Scheduler: "lc"}})...); err != nil {
			s.t.Fatal(err)
		}
		if !elements {
			return
		}
		element := fmt.Sprintf("{ %s . %s . %d }", divert.Addr, strings.ToLower(divert.Protocol.String()), divert.Port)
		if text, err := exec.CommandContext(s.t.Context(), "nft", "delete", "element", "inet", "mooring", "divert-v4", element).CombinedOutput(); err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		objects++
	})
	return objects + 3
}

// audits have somebody else change what the kernel holds, and changes go on while that is looked for. They
// take about as long as without an audit.
func (s *scale) audits(size int) {
	s.t.Helper()
	quiet := s.change(func(made int) bool { return made < 200 })
	s.t.Logf("beside %d Services without an audit: %s", size, quiet)
	s.stop()
	for _, audit := range []struct {
		name string
		all  bool
	}{{"what is not announced", false}, {"everything", true}} {
		counted := &watched{Dataplane: split{kernel: s.kernel}}
		s.start(func(o *reconcile.Options) {
			o.AuditPeriod, o.Dataplane = time.Second, counted
			if !audit.all {
				o.Watch = s.listen
			}
		})
		s.await(func(r reconcile.Round) bool { return r.Complete })
		objects := s.harm([4]int{size - 1, size / 2, size / 3, size / 5}, audit.all)
		// An audit takes a tenth of the time, and an emulated machine milliseconds for each Service.
		limit := max(5*time.Minute, time.Duration(size)*30*time.Millisecond)
		harmed := time.Now()
		audited := s.change(func(int) bool { return s.loop.Status().Repaired < objects && time.Since(harmed) < limit })
		s.t.Logf("beside %d Services during an audit of %s, which found what was harmed after %s: %s", size, audit.name, time.Since(harmed).Round(time.Millisecond), audited)
		s.change(func(int) bool { return false }) // and by then what was found has been put right
		for s.loop.Status().Draining > 0 {
			time.Sleep(50 * time.Millisecond)
		}
		if got := s.loop.Status().Repaired; got != objects {
			s.t.Errorf("%d objects repaired, want %d", got, objects)
		}
		if parts := counted.parts.Load(); parts != 0 && !audit.all {
			s.t.Errorf("%d parts of sets read, the kernel announces changes of", parts)
		}
		most := quiet.of(1) + auditDelay
		if late := audited.over(most); late > hiccups {
			s.t.Errorf("%d changes beside an audit of %s took longer than %s", late, audit.name, most)
		}
		s.stop()
		s.exact()
	}
}

// auditDelay is by how much an audit may delay a change: two steps of some ten milliseconds, as an emulated
// machine that shares its host may do them. It has hiccups of its own.
const (
	auditDelay = 200 * time.Millisecond
	hiccups    = 2
)

// listen runs a Watch of the kernel.
func (s *scale) listen(ctx context.Context, sign func(string)) error {
	var watch *dataplane.Watch
	var err error
	s.namespace.Do(func() { watch, err = s.kernel.OpenWatch() })
	if err != nil {
		return err
	}
	return watch.Run(ctx, sign)
}
