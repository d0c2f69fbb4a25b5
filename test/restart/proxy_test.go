package restart_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/snapshotfile"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/dataplane/fake"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// startProxy runs the parts of mooring-proxy on a data plane in memory.
func startProxy(t *testing.T, kubeconfig, file string, kernel *fake.Dataplane) (stop func()) {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(testLog{t}, nil))
	source, err := watch.Parse("kubernetes", watch.KubernetesConfig{
		Kubeconfig: kubeconfig, Selection: watch.Selection{NoHeadless: true}, Want: watch.Want{Node: "n1", ServiceCIDRs: true}, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	store := state.NewStore()
	keeper := &snapshotfile.Keeper{
		Path: file, Accept: snapshotfile.Acceptance{MaxAge: time.Hour}, Logger: logger,
		Contact: func() time.Time { return watch.Current(source.Status()) },
	}
	keeper.Restore(store)
	loop := reconcile.New(reconcile.Options{
		Store: store, Dataplane: kernel, Logger: logger, DrainTimeout: time.Minute,
		Context: plan.Context{Place: policy.Place{Node: "n1"}, Scheduler: "rr"},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = source.Run(ctx, store) })
	running.Go(func() { _ = loop.Run(ctx) })
	running.Go(func() { keeper.Run(ctx, store) })
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			running.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

// holds tells whether the data plane rejects or serves the address of a Service.
func holds(t *testing.T, kernel *fake.Dataplane, address string) bool {
	t.Helper()
	observed, err := kernel.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(observed.String(), " "+address+":80")
}

// TestProxyStartsWithoutTheAPIServer starts mooring-proxy on an empty kernel, as after a reboot,
// and on one that has been kept, as after an upgrade, while the API server is away.
func TestProxyStartsWithoutTheAPIServer(t *testing.T) {
	plane, api := startControlPlane(t)
	address := make(map[string]string)
	provide := func(name string) {
		create(t.Context(), t, api, name)
		service, err := api.CoreV1().Services("shop").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		address[name] = service.Spec.ClusterIP
	}
	provide("web")
	provide("old")
	file, kept := filepath.Join(t.TempDir(), "snapshot"), &fake.Dataplane{}
	stop := startProxy(t, plane.Kubeconfig(), file, kept)
	until(t, "both Services", 20*time.Second, func() bool { return holds(t, kept, address["web"]) && holds(t, kept, address["old"]) })
	stop() // which writes what is not written yet
	if err := api.CoreV1().Services("shop").Delete(t.Context(), "old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	provide("new")
	plane.StopAPIServer()

	fresh := &fake.Dataplane{}
	kernels := []*fake.Dataplane{fresh, kept}
	for _, kernel := range kernels {
		startProxy(t, plane.Kubeconfig(), file, kernel)
		until(t, "service without the API server", time.Second, func() bool {
			return holds(t, kernel, address["web"]) && holds(t, kernel, address["old"]) && !holds(t, kernel, address["new"])
		})
	}
	if err := plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kernel := range kernels {
		until(t, "what has changed", 40*time.Second, func() bool {
			return holds(t, kernel, address["web"]) && !holds(t, kernel, address["old"]) && holds(t, kernel, address["new"])
		})
	}
}
