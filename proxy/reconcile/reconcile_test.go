package reconcile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/dataplane/fake"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counted is the fake data plane, which passes the same contract as the kernel, with a list of
// the operations that were done.
type counted struct {
	fake.Dataplane

	mu sync.Mutex
	// ops is guarded by mu.
	ops []plan.Op
}

func (c *counted) Apply(ctx context.Context, ops []plan.Op) ([]plan.Op, error) {
	done, err := c.Dataplane.Apply(ctx, ops)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, done...)
	return done, err
}

// take gives the operations since the last take.
func (c *counted) take() []plan.Op {
	c.mu.Lock()
	defer c.mu.Unlock()
	ops := c.ops
	c.ops = nil
	return ops
}

var nodeContext = plan.Context{Place: policy.Place{Node: "node-1"}, Scheduler: "rr"}

// fixture runs a Reconciler inside a synctest bubble.
type fixture struct {
	store      *state.Store
	dataplane  *counted
	reconciler *Reconciler
}

func run(t *testing.T, adopted plan.Plan, play func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		dataplane := holding(t, adopted)
		play(t, start(t, dataplane, dataplane))
	})
}

// holding gives a data plane that holds something at the start.
func holding(t *testing.T, adopted plan.Plan) *counted {
	dataplane := &counted{}
	for _, op := range plan.Diff(nil, adopted) {
		if err := dataplane.Foreign(op); err != nil {
			t.Fatal(err)
		}
	}
	return dataplane
}

// start runs a Reconciler on a data plane until the test ends; what it has applied is read back
// from fake.
func start(t *testing.T, dataplane Dataplane, fake *counted) *fixture {
	return startLogging(t, dataplane, fake, slog.New(slog.DiscardHandler))
}

func startLogging(t *testing.T, dataplane Dataplane, fake *counted, logger *slog.Logger) *fixture {
	return startWith(t, fake, Options{Dataplane: dataplane, Logger: logger})
}

// startWith does so with some options.
func startWith(t *testing.T, fake *counted, options Options) *fixture {
	f := &fixture{store: state.NewStore(), dataplane: fake}
	options.Store, options.Context, options.DrainTimeout = f.store, nodeContext, time.Minute
	f.reconciler = New(options)
	done := make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- f.reconciler.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
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

func (f *fixture) observe(t *testing.T) plan.Plan {
	t.Helper()
	observed, err := f.dataplane.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return observed
}

func (f *fixture) wantPlan(t *testing.T, when, want string) {
	t.Helper()
	if diff := cmp.Diff(want, f.observe(t).String()); diff != "" {
		t.Errorf("%s: data plane (-want +got):\n%s", when, diff)
	}
}

const served = `virtual-server tcp 10.96.0.10:80 scheduler rr
real-server tcp 10.96.0.10:80 -> 10.244.1.2:8080 weight 1
owned tcp 10.96.0.10:80
divert tcp 10.96.0.10:80
`

func TestNothingIsTouchedBeforeTheFirstSync(t *testing.T) {
	run(t, nil, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) { tx.PutService(web("web", "10.96.0.10")) })
		if ops := f.dataplane.take(); len(ops) != 0 || !f.reconciler.Status().Applied.IsZero() {
			t.Errorf("operations before sync: %v", ops)
		}
	})
}

func TestWhatIsRightIsAdopted(t *testing.T) {
	service := web("web", "10.96.0.10")
	adopted := nodeContext.Service(&state.Service{Service: service, Slices: []*model.EndpointSlice{slice(service, "10.244.1.2")}})
	run(t, adopted, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		if ops := f.dataplane.take(); len(ops) != 0 {
			t.Errorf("operations on a data plane that is right: %v", ops)
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
		f.dataplane.take()
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(one, "10.244.1.2", "10.244.1.3")) })
		want := []plan.Op{{Verb: plan.Add, Key: realServer("10.96.0.10", "10.244.1.3:8080"), Value: plan.Value{Weight: 1}}}
		if diff := cmp.Diff(want, f.dataplane.take(), cmp.Comparer(func(a, b plan.Key) bool { return a == b })); diff != "" {
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

		f.dataplane.SetConnections(leaving, 1)
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
		f.dataplane.SetConnections(leaving, 0)
		pass(2 * time.Second)
		f.wantPlan(t, "left", "reject tcp 10.96.0.10:80\n")
	})
}

func TestWhatIsRefusedIsTriedAgain(t *testing.T) {
	service := web("web", "10.96.0.10")
	run(t, nil, func(t *testing.T, f *fixture) {
		bad := realServer("10.96.0.10", "10.244.1.2:8080")
		f.dataplane.Refuse(bad, errors.New("refused"))
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		if status := f.reconciler.Status(); status.Err == nil || status.PendingSince.IsZero() {
			t.Errorf("status after a refusal: %+v", status)
		}
		f.dataplane.Refuse(bad, nil)
		pass(retryLast)
		f.wantPlan(t, "after the retry", served)
		if status := f.reconciler.Status(); status.Err != nil || !status.PendingSince.IsZero() {
			t.Errorf("status after the retry: %+v", status)
		}
	})
}

// A Service becomes one thing after another; of what it was before nothing stays.
func TestAServiceThatChangesLeavesNothingBehind(t *testing.T) {
	steps := []struct {
		name   string
		change func(*model.Service)
	}{
		{"ClusterIP", func(*model.Service) {}},
		{"NodePort", func(s *model.Service) { s.Type, s.Ports[0].NodePort = model.NodePort, 30080 }},
		{"another port, protocol and address", func(s *model.Service) {
			s.Ports[0].Protocol, s.Ports[0].Port, s.ClusterIPs[0] = model.UDP, 53, netip.MustParseAddr("10.96.0.11")
		}},
		{"LoadBalancer of policy Local, with ranges and affinity", func(s *model.Service) {
			s.Type, s.Ports[0].NodePort, s.ExternalTrafficPolicy, s.AffinityTimeout = model.LoadBalancer, 30080, model.Local, time.Minute
			s.LoadBalancerIPs, s.LoadBalancerSourceRanges = []netip.Addr{netip.MustParseAddr("203.0.113.1")}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}},
		{"IPv6 alone", func(s *model.Service) { s.ClusterIPs[0] = netip.MustParseAddr("fd00:10:96::10") }},
		{"headless", func(s *model.Service) { s.ClusterIPs, s.Headless = nil, true }},
		{"ExternalName", func(s *model.Service) { s.Type, s.ClusterIPs, s.Ports = model.ExternalName, nil, nil }},
		{"another proxy's", func(s *model.Service) { s.ProxyName = "other" }},
	}
	run(t, nil, func(t *testing.T, f *fixture) {
		f.commit(func(tx *state.Txn) { tx.SetSynced() })
		for _, turn := range []int{1, -1} {
			for i := range steps {
				step := steps[i]
				if turn < 0 {
					step = steps[len(steps)-1-i]
				}
				service := web("web", "10.96.0.10")
				step.change(service)
				endpoints := slice(service, "10.244.1.2")
				endpoints.Ports = append(endpoints.Ports, model.EndpointPort{Protocol: model.UDP, Port: 5353})
				f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(endpoints) })
				pass(2 * time.Minute) // for what drains
				want := nodeContext
				want.Marks = f.reconciler.context.Marks
				entry := &state.Service{Service: service, Slices: []*model.EndpointSlice{endpoints}}
				f.wantPlan(t, step.name, want.Service(entry).String())
			}
		}
	})
}

// What is no use to try again, such as an endpoint that cannot be one, does not make the node ill.
func TestNothingWaitsForWhatCannotBe(t *testing.T) {
	service := web("web", "10.96.0.10")
	run(t, nil, func(t *testing.T, f *fixture) {
		bad := realServer("10.96.0.10", "172.30.0.255:8080")
		f.dataplane.Refuse(bad, &plan.Refusal{Op: plan.Op{Key: bad}, Err: errors.New("invalid argument")})
		f.commit(func(tx *state.Txn) {
			tx.PutService(service)
			tx.PutSlice(slice(service, "10.244.1.2", "172.30.0.255"))
			tx.SetSynced()
		})
		if status := f.reconciler.Status(); status.Err == nil || !status.PendingSince.IsZero() || status.Revision != f.store.Load().Revision {
			t.Errorf("status after a refusal: %+v", status)
		}
		f.wantPlan(t, "the rest", served)
		f.commit(func(tx *state.Txn) { tx.PutService(web("other", "10.96.0.11")) })
		if status := f.reconciler.Status(); !status.PendingSince.IsZero() || status.Revision != f.store.Load().Revision {
			t.Errorf("status after another change: %+v", status)
		}
		f.dataplane.Refuse(bad, nil)
		pass(retryLast)
		if observed := f.observe(t).String(); !strings.Contains(observed, "172.30.0.255") {
			t.Errorf("it is not tried again: data plane\n%s", observed)
		}
	})
}

func TestASchedulerThatTheKernelLacks(t *testing.T) {
	service := web("web", "10.96.0.10")
	service.Annotations = map[string]string{plan.SchedulerAnnotation: "twos"}
	run(t, nil, func(t *testing.T, f *fixture) {
		var told []plan.Problem
		f.reconciler.options.Complain = func(_ model.ServiceKey, p plan.Problem) { told = append(told, p) }
		server := realServer("10.96.0.10", "10.244.1.2:8080").VirtualServerKey()
		f.dataplane.Refuse(server, &plan.Refusal{Op: plan.Op{Key: server, Value: plan.Value{Scheduler: "twos"}}, Err: errors.New("no such module"), NoScheduler: true})
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		f.dataplane.Refuse(server, nil)
		pass(retryFirst)
		f.wantPlan(t, "by the default scheduler", served)
		if len(told) != 1 || !strings.Contains(told[0].Reason, "ip_vs_twos; the default is used") {
			t.Errorf("told %+v", told)
		}
	})
}

// losing is a data plane that has been removed by somebody when lost says so.
type losing struct {
	*counted
	lost atomic.Bool
}

func (l *losing) Apply(ctx context.Context, ops []plan.Op) ([]plan.Op, error) {
	if l.lost.Swap(false) {
		observed, _ := l.Observe(ctx)
		for _, op := range plan.Diff(observed, nil) {
			l.Foreign(op) //nolint:errcheck // the plan compared afterwards tells
		}
		return nil, ErrLost
	}
	return l.counted.Apply(ctx, ops)
}

func TestARemovedDataPlaneIsBuiltAgain(t *testing.T) {
	one, two := web("web", "10.96.0.10"), web("other", "10.96.0.11")
	synctest.Test(t, func(t *testing.T) {
		dataplane := &losing{counted: &counted{}}
		f := start(t, dataplane, dataplane.counted)
		f.commit(func(tx *state.Txn) { tx.PutService(one); tx.PutSlice(slice(one, "10.244.1.2")); tx.SetSynced() })
		f.wantPlan(t, "serving", served)
		dataplane.lost.Store(true)
		f.commit(func(tx *state.Txn) { tx.PutService(two) })
		pass(retryFirst)
		f.wantPlan(t, "built again", served+"reject tcp 10.96.0.11:80\n")
	})
}

func TestABadAnnotationIsToldOnce(t *testing.T) {
	annotated := func(annotations map[string]string) func(*state.Txn) {
		service := web("web", "10.96.0.10")
		service.Annotations = annotations
		return func(tx *state.Txn) { tx.PutService(service); tx.SetSynced() }
	}
	best, worst := map[string]string{plan.SchedulerAnnotation: "best"}, map[string]string{plan.SchedulerAnnotation: "worst"}
	both := map[string]string{plan.SchedulerAnnotation: "worst", plan.DrainTimeoutAnnotation: "soon"}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dataplane := &counted{}
		f := startLogging(t, dataplane, dataplane, slog.New(slog.NewTextHandler(&log, nil)))
		lines := func() int { return strings.Count(log.String(), "service=default/web") }
		told := 0
		f.reconciler.options.Complain = func(model.ServiceKey, plan.Problem) { told++ }
		for _, step := range []struct {
			name   string
			change func(*state.Txn)
			want   int
		}{
			{"the Service appears", annotated(best), 1},
			{"its endpoints change", func(tx *state.Txn) { tx.PutSlice(slice(web("web", "10.96.0.10"), "10.244.1.2")) }, 1},
			{"the annotation goes", annotated(nil), 1},
			{"it returns", annotated(best), 2},
			{"it changes", annotated(worst), 3},
			{"another one joins it", annotated(both), 4},
			{"the other one goes", annotated(worst), 4},
		} {
			f.commit(step.change)
			if got := lines(); got != step.want {
				t.Errorf("%s: %d lines, want %d:\n%s", step.name, got, step.want, log.String())
			}
			if told != step.want {
				t.Errorf("%s: told %d times, want %d", step.name, told, step.want)
			}
		}
	})
}

// interrupted is a data plane that is being set up when the process is asked to end.
type interrupted struct {
	*counted
	ask func()
}

func (i interrupted) Setup(ctx context.Context) error {
	i.ask()
	return ctx.Err()
}

func TestAnEndWhileTheDataPlaneIsSetUpIsNoError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := New(Options{Store: state.NewStore(), Dataplane: interrupted{&counted{}, cancel}, Logger: slog.New(slog.DiscardHandler), Context: nodeContext})
	if err := r.Run(ctx); err != nil {
		t.Errorf("error %v", err)
	}
}
