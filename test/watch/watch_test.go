// Package watch_test runs internal/watch against a real API server.
package watch_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/test/controlplane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// TestRealAPIServer follows one Service through protobuf, streamed lists, an outage and
// a restart of the source.
func TestRealAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real control plane, which takes seconds, and its first build minutes: left out by -short")
	}
	dir, err := controlplane.Build(t.Context(), testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	plane, err := controlplane.Start(t.Context(), controlplane.Options{
		BinDir: dir, ServiceCIDR: controlplane.DualStackServiceCIDR, NoControllerManager: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	api, err := kubernetes.NewForConfig(plane.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	web := create(t, api)
	store, source := follow(t, plane)

	until(t, "the objects", func() bool { return store.Load().Synced && store.Load().Service(web) != nil })
	snap := store.Load()
	if snap.Node("n1") == nil || snap.Node("n2") != nil {
		t.Error("want the Node n1 alone")
	}
	if snap.Service(model.ServiceKey{Namespace: "shop", Name: "headless"}) != nil {
		t.Error("a headless Service was not left out")
	}
	if snap.Service(model.ServiceKey{Namespace: "shop", Name: "foreign"}) != nil {
		t.Error("a Service of another proxy was not left out")
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}
	if diff := cmp.Diff(want, snap.ServiceCIDRs(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("service CIDRs (-want +got):\n%s", diff)
	}
	if got := endpoints(store, web); !slices.Equal(got, []string{"10.244.1.1"}) {
		t.Errorf("endpoints %v", got)
	}

	setEndpoints(t, api, "10.244.1.1", "10.244.1.2")
	until(t, "the second endpoint", func() bool { return len(endpoints(store, web)) == 2 })

	t.Run("events", func(t *testing.T) { testEvents(t, plane, api, web) })

	second := time.Now()
	until(t, "an audit of all kinds after that", func() bool {
		return !slices.ContainsFunc(source.Status(), func(s watch.KindStatus) bool { return s.Audited.Before(second) })
	})

	plane.StopAPIServer()
	until(t, "an error in the status", func() bool { return source.Status()[0].Err != nil })
	t.Logf("status: %v", source.Status()[0].Err)
	if got := endpoints(store, web); len(got) != 2 {
		t.Errorf("endpoints during the outage: %v", got)
	}
	if err := plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	setEndpoints(t, api, "10.244.1.3")
	until(t, "the change after the outage", func() bool { return slices.Equal(endpoints(store, web), []string{"10.244.1.3"}) })

	if err := api.CoreV1().Services("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the deletion", func() bool { return store.Load().Service(web) == nil })
	for _, status := range source.Status() {
		if status.Repaired != 0 {
			t.Errorf("%s: audits found %d objects that the watch had not missed", status.Kind, status.Repaired)
		}
	}
}

// create makes what the test looks at.
func create(t *testing.T, api kubernetes.Interface) model.ServiceKey {
	t.Helper()
	ctx := t.Context()
	check := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}))
	for _, name := range []string{"n1", "n2"} {
		check(api.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
	}
	for name, spec := range map[string]corev1.ServiceSpec{
		"web": {}, "headless": {ClusterIP: "None"}, "foreign": {},
	} {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: spec}
		service.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
		if name == "foreign" {
			service.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "other"}
		}
		check(api.CoreV1().Services("shop").Create(ctx, service, metav1.CreateOptions{}))
	}
	check(api.DiscoveryV1().EndpointSlices("shop").Create(ctx, webSlice("10.244.1.1"), metav1.CreateOptions{}))
	return model.ServiceKey{Namespace: "shop", Name: "web"}
}

func webSlice(addrs ...string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for _, addr := range addrs {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr}, NodeName: new("n1")})
	}
	return slice
}

func setEndpoints(t *testing.T, api kubernetes.Interface, addrs ...string) {
	t.Helper()
	if _, err := api.DiscoveryV1().EndpointSlices("shop").Update(t.Context(), webSlice(addrs...), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// follow runs a source as mooring-proxy does, with the kubeconfig and in protobuf.
func follow(t *testing.T, plane *controlplane.ControlPlane) (*state.Store, watch.Source) {
	t.Helper()
	source, err := watch.Parse("kubernetes", watch.KubernetesConfig{
		Kubeconfig: plane.Kubeconfig(),
		Selection:  watch.Selection{ServiceLabels: "!service.kubernetes.io/service-proxy-name", NoHeadless: true},
		Want:       watch.Want{Namespaces: true, Node: "n1", ServiceCIDRs: true, Pods: true},
		// So often that audits meet every change of the test.
		AuditInterval: 100 * time.Millisecond,
		Logger:        slog.New(slog.NewTextHandler(testLog{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	store := state.NewStore()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- source.Run(ctx, store) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return store, source
}

// endpoints gives the addresses of a Service in the order of its slices.
func endpoints(store *state.Store, key model.ServiceKey) []string {
	var out []string
	if entry := store.Load().Service(key); entry != nil {
		for _, slice := range entry.Slices {
			for _, e := range slice.Endpoints {
				out = append(out, fmt.Sprint(e.Addr))
			}
		}
	}
	return out
}

// until polls a condition for as long as an API server may take to come back.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !met() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited a minute in vain for %s", what)
		}
	}
}
