package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a data plane that does what plan.Apply says, counts what it was asked to do, and
// can be told to refuse some objects.
type scripted struct {
	// mu guards all fields: the loop and the test take turns, which the race detector
	// does not see.
	mu          sync.Mutex
	plan        plan.Plan
	ops         []plan.Op
	refuse      map[plan.Key]bool
	connections map[plan.Key]uint32
}

func (s *scripted) Observe(context.Context) (plan.Plan, error) { return maps.Clone(s.plan), nil }

func (s *scripted) Apply(_ context.Context, ops []plan.Op) (done []plan.Op, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		if s.refuse[op.Key] {
			err = errors.Join(err, errors.New("refused: "+op.String()))
			continue
		}
		done = append(done, op)
	}
	s.plan = plan.Apply(s.plan, done)
	s.ops = append(s.ops, done...)
	return done, err
}

func (s *scripted) Connections(context.Context, []plan.Key) (map[plan.Key]uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections, nil
}

// set changes the fields.
func (s *scripted) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

var nodeContext = plan.Context{Place: policy.Place{Node: "node-1"}, Scheduler: "rr"}

// fixture runs a Reconciler inside a synctest bubble.
type fixture struct {
	store      *state.Store
	dataplane  *scripted
	reconciler *Reconciler
}

func run(t *testing.T, adopted plan.Plan, play func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{store: state.NewStore(), dataplane: &scripted{plan: adopted}}
		f.reconciler = New(Options{
			Store: f.store, Dataplane: f.dataplane, Logger: slog.New(slog.DiscardHandler),
			Context:      nodeContext,
			DrainTimeout: time.Minute,
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.reconciler.Run(ctx) }()
		play(t, f)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// commit changes the objects and waits until the loop has nothing more to do.
func (f *fixture) commit(change func(*state.Txn)) {
	f.store.Update(time.Now(), change)
	synctest.Wait()
}

// pass lets fake time go by and waits until the loop has nothing more to do.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func web(name, vip string) *model.Service {
	return &model.Service{
		Key: model.ServiceKey{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{netip.MustParseAddr(vip)},
		Ports: []model.ServicePort{{Protocol: model.TCP, Port: 80}},
	}
}

func slice(service *model.Service, addresses ...string) *model.EndpointSlice {
	s := &model.EndpointSlice{Name: service.Key.Name, Service: service.Key, Ports: []model.EndpointPort{{Protocol: model.TCP, Port: 8080}}}
	for _, text := range addresses {
		s.Endpoints = append(s.Endpoints, model.Endpoint{Addr: netip.MustParseAddr(text), Ready: true, Serving: true})
	}
	return s
}

func realServer(vip, endpoint string) plan.Key {
	return plan.Key{Kind: plan.RealServer, Protocol: model.TCP, Port: 80, Addr: netip.MustParseAddr(vip), Endpoint: netip.MustParseAddrPort(endpoint)}
}

func (f *fixture) wantPlan(t *testing.T, when, want string) {
	t.Helper()
	if diff := cmp.Diff(want, f.dataplane.plan.String()); diff != "" {
		t.Errorf("%s: data plane (-want +got):\n%s", when, diff)
	}
}

const served = `virtual-server tcp 10.96.0.10:80 scheduler rr
real-server tcp 10.96.0.10:80 -> 10.244.1.2:8080 weight 1
owned tcp 10.96.0.10:80
divert tcp 10.96.0.10:80
`

func TestNothingIsTouchedBeforeTheFirstSync(t *testing.T) {
	old := plan.Plan{realServer("10.96.0.10", "10.244.1.2:8080"): {Weight: 1}}
	run(t, old, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) { tx.PutService(web("web", "10.96.0.10")) })
		if len(f.dataplane.ops) != 0 || !f.reconciler.Status().Applied.IsZero() {
			t.Errorf("operations before sync: %v", f.dataplane.ops)
		}
	})
}

func TestWhatIsRightIsAdopted(t *testing.T) {
	service := web("web", "10.96.0.10")
	adopted := nodeContext.Service(&state.Service{Service: service, Slices: []*model.EndpointSlice{slice(service, "10.244.1.2")}})
	run(t, adopted, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		if len(f.dataplane.ops) != 0 {
			t.Errorf("operations on a data plane that is right: %v", f.dataplane.ops)
		}
		f.wantPlan(t, "after start", served)
	})
}

func TestAChangeCostsItsOwnOperationsAlone(t *testing.T) {
	one, two := web("web", "10.96.0.10"), web("other", "10.96.0.11")
	run(t, nil, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) {
			for _, s := range []*model.Service{one, two} {
				tx.PutService(s)
				tx.PutSlice(slice(s, "10.244.1.2"))
			}
			tx.SetSynced()
		})
		f.dataplane.set(func() { f.dataplane.ops = nil })
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(one, "10.244.1.2", "10.244.1.3")) })
		want := []plan.Op{{Verb: plan.Add, Key: realServer("10.96.0.10", "10.244.1.3:8080"), Value: plan.Value{Weight: 1}}}
		if diff := cmp.Diff(want, f.dataplane.ops, cmp.Comparer(func(a, b plan.Key) bool { return a == b })); diff != "" {
			t.Errorf("operations (-want +got):\n%s", diff)
		}
	})
}

func TestATCPEndpointDrainsAndReturns(t *testing.T) {
	service := web("web", "10.96.0.10")
	leaving := realServer("10.96.0.10", "10.244.1.2:8080")
	run(t, nil, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		f.wantPlan(t, "serving", served)

		f.dataplane.set(func() { f.dataplane.connections = map[plan.Key]uint32{leaving: 1} })
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service)) })
		pass(10 * time.Second)
		f.wantPlan(t, "draining", `virtual-server tcp 10.96.0.10:80 scheduler rr
real-server tcp 10.96.0.10:80 -> 10.244.1.2:8080 weight 0
owned tcp 10.96.0.10:80
divert tcp 10.96.0.10:80
reject tcp 10.96.0.10:80
`)
		if got := f.reconciler.Status().Draining; got != 1 {
			t.Errorf("status says %d draining, want 1", got)
		}

		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.2")) })
		f.wantPlan(t, "reinstated", served)

		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service)) })
		f.dataplane.set(func() { f.dataplane.connections = nil })
		pass(2 * time.Second)
		f.wantPlan(t, "left", "reject tcp 10.96.0.10:80\n")
	})
}

func TestWhatIsRefusedIsTriedAgain(t *testing.T) {
	service := web("web", "10.96.0.10")
	run(t, nil, func(t *testing.T, f *fixture) {
		bad := realServer("10.96.0.10", "10.244.1.2:8080")
		f.dataplane.set(func() { f.dataplane.refuse = map[plan.Key]bool{bad: true} })
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		if status := f.reconciler.Status(); status.Err == nil || status.PendingSince.IsZero() {
			t.Errorf("status after a refusal: %+v", status)
		}
		f.dataplane.set(func() { f.dataplane.refuse = nil })
		pass(retryLast)
		f.wantPlan(t, "after the retry", served)
		if status := f.reconciler.Status(); status.Err != nil || !status.PendingSince.IsZero() {
			t.Errorf("status after the retry: %+v", status)
		}
	})
}

func TestNodeAddressesComeAndGo(t *testing.T) {
	service := web("web", "10.96.0.10")
	service.Ports[0].NodePort = 30080
	run(t, nil, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.SetSynced() })
		f.wantPlan(t, "no address", "reject tcp 10.96.0.10:80\n")
		f.reconciler.SetNodeAddresses([]netip.Addr{netip.MustParseAddr("172.30.0.11")})
		synctest.Wait()
		f.wantPlan(t, "an address", "reject tcp 10.96.0.10:80\nreject tcp 172.30.0.11:30080\n")
		f.commit(func(tx *state.Txn) { tx.DeleteService(service.Key) })
		f.reconciler.SetNodeAddresses(nil)
		synctest.Wait()
		f.wantPlan(t, "service deleted and address gone", "")
	})
}
