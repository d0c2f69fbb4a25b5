package reconcile

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// paced is a data plane on which each operation takes its time.
type paced struct {
	*counted
	perOperation time.Duration
	// perCall is what each call takes besides.
	perCall time.Duration

	mu sync.Mutex
	// calls are guarded by mu.
	calls []call
}

// call is one of Apply.
type call struct {
	ended time.Time
	ops   []plan.Op
}

func (p *paced) Apply(ctx context.Context, ops []plan.Op) ([]plan.Op, error) {
	time.Sleep(p.perCall + time.Duration(len(ops))*p.perOperation)
	p.mu.Lock()
	p.calls = append(p.calls, call{time.Now(), slices.Clone(ops)})
	p.mu.Unlock()
	return p.counted.Apply(ctx, ops)
}

// taken gives the calls since it was called last.
func (p *paced) taken() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	return calls
}

// pacedRun plays on a data plane on which an operation takes 20 microseconds and a call 2
// milliseconds, as on a slow node.
func pacedRun(t *testing.T, play func(t *testing.T, f *fixture, p *paced)) {
	synctest.Test(t, func(t *testing.T) {
		p := &paced{counted: &counted{}, perOperation: 20 * time.Microsecond, perCall: 2 * time.Millisecond}
		play(t, start(t, p, p.counted), p)
	})
}

// settle waits until everything is applied.
func (f *fixture) settle(t *testing.T) {
	t.Helper()
	for range 100000 {
		synctest.Wait()
		status := f.reconciler.Status()
		if status.Revision == f.store.Load().Revision && status.Draining == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not settled: %+v", f.reconciler.Status())
}

// exact compares the data plane with what one gets by planning the objects from the beginning.
func (f *fixture) exact(t *testing.T) {
	t.Helper()
	observed, err := f.dataplane.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := plan.Diff(observed, planned(f.store.Load())); len(diff) > 0 {
		t.Errorf("%d objects differ in the end, the first one: %s", len(diff), diff[0])
	}
}

// planned gives the plan of a snapshot.
func planned(snapshot *state.Snapshot) plan.Plan {
	whole := plan.NewAssembly()
	whole.Replace(model.ServiceKey{}, nodeContext.Cluster(snapshot))
	for key, entry := range snapshot.Services() {
		whole.Replace(key, nodeContext.Service(entry), entry.Service.ClusterIPs...)
	}
	return whole.Plan()
}

// many is how many Services there are beside what changes.
func many() int {
	if testing.Short() {
		return 3000
	}
	return 10000
}

// cluster puts n Services with one endpoint each, and the API and the name service.
func cluster(tx *state.Txn, n int) {
	for i := range n {
		service := numbered(i)
		tx.PutService(service)
		tx.PutSlice(slice(service, endpointOf(i)))
	}
	for _, service := range []*model.Service{api(), dns()} {
		tx.PutService(service)
		tx.PutSlice(slice(service, "10.244.0.2"))
	}
	tx.SetServiceCIDRs([]netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")})
	tx.SetSynced()
}

func numbered(i int) *model.Service {
	return web(fmt.Sprintf("svc-%d", i), netip.AddrFrom4([4]byte{10, 97, byte(i >> 8), byte(i)}).String())
}

func endpointOf(i int) string {
	return netip.AddrFrom4([4]byte{10, 128, byte(i >> 8), byte(i)}).String()
}

func api() *model.Service { return web("kubernetes", "10.96.0.1") }

func dns() *model.Service {
	service := web("coredns", "10.96.0.10")
	service.Key.Namespace, service.Selector = "kube-system", "k8s-app=kube-dns"
	return service
}

func TestWhatEverythingNeedsComesFirst(t *testing.T) {
	pacedRun(t, func(t *testing.T, f *fixture, p *paced) {
		services := many()
		began := time.Now()
		f.store.Update(began, func(tx *state.Txn) { cluster(tx, services) })
		f.settle(t)
		f.exact(t)
		calls := p.taken()
		first := calls[0].ops
		if got := len(first); got != 2*4 {
			t.Errorf("%d operations in the first round, want those of two Services: %v", got, first)
		}
		for _, op := range first {
			if a := op.Key.Addr.String(); a != "10.96.0.1" && a != "10.96.0.10" {
				t.Errorf("in the first round: %s", op)
			}
		}
		// The prefix refuses what no Service lists, and all of them have to be there by then.
		last := calls[len(calls)-1].ops
		if op := last[len(last)-1]; op.Key.Kind != plan.ServiceCIDR {
			t.Errorf("the last operation is %s, want the prefix of Service addresses", op)
		}
		for _, c := range calls {
			if len(c.ops) > perRound {
				t.Errorf("%d operations in one round, want at most %d", len(c.ops), perRound)
			}
		}
		t.Logf("first address after %s, all of %d Services after %s in %d rounds",
			calls[0].ended.Sub(began), services, calls[len(calls)-1].ended.Sub(began), len(calls))
	})
}

func TestWhatIsUrgentDoesNotWaitForTheRest(t *testing.T) {
	pacedRun(t, func(t *testing.T, f *fixture, p *paced) {
		f.store.Update(time.Now(), func(tx *state.Txn) { cluster(tx, many()) })
		time.Sleep(100 * time.Millisecond) // it is busy with the rest now
		if status := f.reconciler.Status(); status.PendingSince.IsZero() {
			t.Fatal("not busy any more")
		}
		changed := time.Now()
		f.store.Update(changed, func(tx *state.Txn) { tx.PutSlice(slice(dns(), "10.244.0.2", "10.244.0.3")) })
		f.settle(t)
		f.exact(t)
		want := realServer("10.96.0.10", "10.244.0.3:8080")
		for _, c := range p.taken() {
			if slices.ContainsFunc(c.ops, func(op plan.Op) bool { return op.Key == want }) {
				// The round that is going on, and its own.
				if took, most := c.ended.Sub(changed), 2*(perRound*p.perOperation+p.perCall); took > most {
					t.Errorf("applied after %s, want at most %s", took, most)
				}
				return
			}
		}
		t.Error("never applied")
	})
}

func TestManyChangesInASecond(t *testing.T) {
	pacedRun(t, func(t *testing.T, f *fixture, p *paced) {
		services, changes := many(), 1000
		f.store.Update(time.Now(), func(tx *state.Txn) { cluster(tx, services) })
		f.settle(t)
		p.taken()
		for i := range changes {
			f.store.Update(time.Now(), func(tx *state.Txn) {
				tx.PutSlice(slice(numbered(i*7%services), endpointOf(i*7%services), "10.200.0.1"))
			})
			time.Sleep(time.Second / time.Duration(changes))
		}
		changed := time.Now()
		f.store.Update(changed, func(tx *state.Txn) { tx.PutSlice(slice(api(), "10.244.0.2", "10.244.0.9")) })
		f.settle(t)
		f.exact(t)
		operations, rounds := 0, p.taken()
		for _, c := range rounds {
			operations += len(c.ops)
			if slices.ContainsFunc(c.ops, func(op plan.Op) bool { return op.Key.Addr.String() == "10.96.0.1" }) {
				t.Logf("the API's change was applied after %s", c.ended.Sub(changed))
				if took := c.ended.Sub(changed); took > 100*time.Millisecond {
					t.Errorf("the API's change was applied after %s", took)
				}
			}
		}
		t.Logf("%d operations in %d rounds", operations, len(rounds))
		if operations != changes+1 || len(rounds) > changes/2 {
			t.Errorf("%d operations in %d rounds for %d changes", operations, len(rounds), changes)
		}
	})
}

func TestAFlappingServiceIsGathered(t *testing.T) {
	pacedRun(t, func(t *testing.T, f *fixture, p *paced) {
		p.perCall = 20 * time.Millisecond
		f.store.Update(time.Now(), func(tx *state.Txn) { cluster(tx, 100) })
		f.settle(t)
		p.taken()
		began := time.Now()
		service := numbered(5)
		for i := range 3000 { // a hundred times a second
			endpoints := []string{endpointOf(5), "10.200.0.1"}
			f.store.Update(time.Now(), func(tx *state.Txn) { tx.PutSlice(slice(service, endpoints[:1+i%2]...)) })
			time.Sleep(10 * time.Millisecond)
		}
		last := time.Now()
		f.settle(t)
		f.exact(t)
		rounds := p.taken()
		worked := time.Duration(len(rounds)) * p.perCall
		t.Logf("%d rounds, %s of work in %s", len(rounds), worked, last.Sub(began))
		// Besides what there was credit for, and the drains at the end.
		if most := creditFull + last.Sub(began)/creditGain + time.Second; worked > most {
			t.Errorf("%s of work, want at most %s", worked, most)
		}
	})
}

func TestRollingRestartOfALargeService(t *testing.T) {
	pacedRun(t, func(t *testing.T, f *fixture, p *paced) {
		perSlice, slicesOf := 100, 50
		if testing.Short() {
			slicesOf = 10
		}
		large := numbered(1)
		part := func(i, generation, upTo int) *model.EndpointSlice {
			s := slice(large)
			s.Name = fmt.Sprintf("part-%d", i)
			for j := range perSlice {
				of := 200 + generation
				if j >= upTo {
					of-- // not restarted yet
				}
				s.Endpoints = append(s.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(of), byte(i), byte(j)}), Ready: true, Serving: true})
			}
			return s
		}
		f.store.Update(time.Now(), func(tx *state.Txn) {
			cluster(tx, 1000)
			tx.DeleteSlice("default", large.Key.Name)
			for i := range slicesOf {
				tx.PutSlice(part(i, 1, 0))
			}
		})
		f.settle(t)
		p.taken()
		f.dataplane.take()
		before := live()
		for i := range slicesOf {
			for upTo := 10; upTo <= perSlice; upTo += 10 {
				f.store.Update(time.Now(), func(tx *state.Txn) { tx.PutSlice(part(i, 1, upTo)) })
				time.Sleep(5 * time.Millisecond)
			}
		}
		f.settle(t)
		f.exact(t)
		operations, rounds := 0, p.taken()
		for _, c := range rounds {
			operations += len(c.ops)
		}
		f.dataplane.take()
		after := live()
		t.Logf("%d operations in %d rounds; %d KiB before, %d KiB after", operations, len(rounds), before>>10, after>>10)
		// Each new endpoint comes, each old one is idle and goes.
		if most := 3 * perSlice * slicesOf; operations > most {
			t.Errorf("%d operations, want at most %d", operations, most)
		}
		if after > before+before/10 {
			t.Errorf("the heap has %d KiB after the restart, and had %d before", after>>10, before>>10)
		}
	})
}

// live gives the octets of the heap that are in use.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestWhatIsRightIsAdoptedAtAnySize(t *testing.T) {
	const services = 5000
	synctest.Test(t, func(t *testing.T) {
		dataplane := &counted{}
		earlier := state.NewStore().Update(time.Now(), func(tx *state.Txn) { cluster(tx, services) })
		for _, op := range plan.Diff(nil, planned(earlier)) {
			if err := dataplane.Foreign(op); err != nil {
				t.Fatal(err)
			}
		}
		f := start(t, dataplane, dataplane)
		f.commit(func(tx *state.Txn) { cluster(tx, services) })
		f.settle(t)
		if ops := dataplane.take(); len(ops) != 0 {
			t.Errorf("%d operations on a data plane that is right, the first: %s", len(ops), ops[0])
		}
	})
}

func TestQueue(t *testing.T) {
	lot := func(n int) []plan.Key { return make([]plan.Key, n) }
	var q queue
	for _, add := range []struct {
		n      int
		urgent bool
	}{{perRound - 1, false}, {1, false}, {1, false}, {3, true}, {perRound + 7, false}, {0, false}} {
		q.add(lot(add.n), add.urgent)
	}
	var sizes []int
	for !q.empty() {
		sizes = append(sizes, len(q.take()))
	}
	// What is urgent, and no lot that does not fit; two lots; one; one that is too large alone.
	if diff := cmp.Diff([]int{3, perRound, 1, perRound + 7}, sizes); diff != "" {
		t.Errorf("rounds (-want +got):\n%s", diff)
	}
}

func TestIsUrgent(t *testing.T) {
	entry := func(selector string) *state.Service {
		return &state.Service{Service: &model.Service{Selector: selector}}
	}
	for _, c := range []struct {
		key   model.ServiceKey
		entry *state.Service
		want  bool
	}{
		{model.ServiceKey{Namespace: "default", Name: "kubernetes"}, entry(""), true},
		{model.ServiceKey{Namespace: "kube-system", Name: "kube-dns"}, nil, true},
		{model.ServiceKey{Namespace: "kube-system", Name: "coredns"}, entry("k8s-app=kube-dns"), true},
		{model.ServiceKey{Namespace: "kube-system", Name: "metrics-server"}, entry("k8s-app=metrics-server"), false},
		{model.ServiceKey{Namespace: "shop", Name: "kubernetes"}, entry(""), false},
		{model.ServiceKey{Namespace: "shop", Name: "dns"}, entry("k8s-app=kube-dns"), false},
	} {
		if got := isUrgent(c.key, c.entry); got != c.want {
			t.Errorf("%s: %t, want %t", c.key, got, c.want)
		}
	}
}
