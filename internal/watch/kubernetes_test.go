package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

func apiService(namespace, name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

func apiSlice(namespace, name, service string, addrs ...string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for _, addr := range addrs {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr}, NodeName: new("n1")})
	}
	return slice
}

// A kubernetesRun is a source at work on an apiServer.
type kubernetesRun struct {
	t      *testing.T
	api    *apiServer
	store  *state.Store
	source *Kubernetes
	log    *logBook
}

func runKubernetes(t *testing.T, api *apiServer, config KubernetesConfig) *kubernetesRun {
	t.Helper()
	r := &kubernetesRun{t: t, api: api, store: state.NewStore(), log: &logBook{}}
	config.Master, config.ContentType, config.QPS = "http://"+api.addr, "application/json", -1
	config.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	source, err := NewKubernetes(config)
	if err != nil {
		t.Fatal(err)
	}
	r.source = source.(*Kubernetes)
	r.source.pause, r.source.grace = time.Millisecond, 5*time.Millisecond
	runSource(t, source, r.store)
	return r
}

func (r *kubernetesRun) until(want string) {
	r.t.Helper()
	want = strings.TrimSpace(want)
	var got string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		snapshot := r.store.Load()
		if got = printed(snapshot); got == want && snapshot.Synced {
			return
		}
	}
	r.t.Fatalf("snapshot (-want +got), synced %v:\n%s\nlog:\n%s", r.store.Load().Synced, cmp.Diff(want, got), r.log)
}

const webLine = "service shop/web ClusterIP ips=[10.96.0.10] ports=http:TCP/80:0"

func TestKubernetesReadsAllKinds(t *testing.T) {
	api := newAPIServer(t)
	api.put("services", apiService("shop", "web", "10.96.0.10"))
	api.put("endpointslices", apiSlice("shop", "web-1", "web", "10.244.1.1"))
	api.put("endpointslices", &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "nobodys"}})
	api.put("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	api.put("nodes", &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z1"}},
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.1.0/24"},
	})
	api.put("servicecidrs", &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/16"}}})
	api.put("servicecidrs", &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}})
	api.put("pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p1"}, Status: corev1.PodStatus{PodIP: "10.244.1.1"}})
	r := runKubernetes(t, api, KubernetesConfig{
		Selection: Selection{ServiceLabels: "!service.kubernetes.io/service-proxy-name", NoHeadless: true},
		Want:      Want{Namespaces: true, Node: "n1", ServiceCIDRs: true, Pods: true},
	})
	r.until(`
namespace shop
node n1 zone=z1 [] [10.244.1.0/24]
pod shop/p1 [10.244.1.1]
` + webLine + `
servicecidrs [10.96.0.0/16 10.97.0.0/16]
slice shop/web-1 10.244.1.1 ready serving host= pod= node=n1 zone=
slice shop/web-1 of shop/web ports=[{http TCP 8080}]`)

	for _, want := range [][]string{
		{"/api/v1/services?", "fieldSelector=spec.clusterIP%21%3DNone", "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name", "sendInitialEvents=true"},
		{"/apis/discovery.k8s.io/v1/endpointslices?", "labelSelector=%21service.kubernetes.io%2Fheadless"},
		{"/api/v1/nodes?", "fieldSelector=metadata.name%3Dn1"},
		{"/api/v1/pods?", "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed"},
	} {
		if api.asked(want...) == 0 {
			t.Errorf("no request with %v", want)
		}
	}
	for _, status := range r.source.Status() {
		if status.Err != nil || status.Listed.IsZero() || status.Contact.Before(status.Listed) {
			t.Errorf("status %+v", status)
		}
	}

	api.remove("servicecidrs", "/a", false)
	api.remove("pods", "shop/p1", false)
	api.remove("endpointslices", "shop/web-1", false)
	api.remove("nodes", "/n1", false)
	r.until("namespace shop\n" + webLine + "\nservicecidrs [10.97.0.0/16]")
}

// TestKubernetesSurvives holds for streamed lists and for plain ones.
func TestKubernetesSurvives(t *testing.T) {
	for _, noStream := range []bool{false, true} {
		t.Run(fmt.Sprintf("noStream=%v", noStream), func(t *testing.T) {
			api := newAPIServer(t)
			api.noStream = noStream
			api.put("services", apiService("shop", "web", "10.96.0.10"))
			api.put("services", apiService("shop", "gone", "10.96.0.11"))
			r := runKubernetes(t, api, KubernetesConfig{Selection: Selection{NoEndpoints: true}})
			r.until("service shop/gone ClusterIP ips=[10.96.0.11] ports=http:TCP/80:0\n" + webLine)
			web := r.store.Load().Service(model.ServiceKey{Namespace: "shop", Name: "web"}).Service

			// The watch goes on after a cut, without a list. (The reflector lists anew
			// after a watch that ended at once and brought nothing: let it bring something.)
			api.put("services", apiService("shop", "gone", "10.96.0.14"))
			r.until("service shop/gone ClusterIP ips=[10.96.0.14] ports=http:TCP/80:0\n" + webLine)
			lists := api.asked("sendInitialEvents=true") + api.asked("/services?resourceVersion=")
			api.dropStreams()
			api.put("services", apiService("shop", "new", "10.96.0.12"))
			r.until("service shop/gone ClusterIP ips=[10.96.0.14] ports=http:TCP/80:0\nservice shop/new ClusterIP ips=[10.96.0.12] ports=http:TCP/80:0\n" + webLine)
			if now := api.asked("sendInitialEvents=true") + api.asked("/services?resourceVersion="); now != lists {
				t.Errorf("%d lists instead of %d after the stream was cut", now, lists)
			}

			// 410 Gone: what vanished meanwhile is removed, what stayed keeps its value.
			api.remove("services", "shop/gone", true)
			api.remove("services", "shop/new", true)
			api.compact()
			api.dropStreams()
			r.until(webLine)
			if now := r.store.Load().Service(model.ServiceKey{Namespace: "shop", Name: "web"}).Service; now != web {
				t.Error("the relist replaced a Service that had not changed")
			}

			// An API server that is away: nothing is lost, one line is logged.
			addr := api.addr
			api.stop()
			until(t, "the error", func() bool { return r.source.Status()[0].Err != nil })
			want := "API server http://" + addr + ": connection refused; check the address of the API server in flags or configuration; retrying"
			if diff := cmp.Diff(want, r.source.Status()[0].Err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if got := printed(r.store.Load()); got != webLine {
				t.Errorf("lost objects: %s", got)
			}
			api.start(addr)
			api.put("services", apiService("shop", "api", "10.96.0.13"))
			r.until("service shop/api ClusterIP ips=[10.96.0.13] ports=http:TCP/80:0\n" + webLine)
			if n := r.log.count(`level=ERROR msg="API server`); n != 1 {
				t.Errorf("%d error lines:\n%s", n, r.log)
			}
		})
	}
}

func TestKubernetesServerAwayAtStart(t *testing.T) {
	api := newAPIServer(t)
	addr := api.addr
	api.stop()
	r := runKubernetes(t, api, KubernetesConfig{Want: Want{Namespaces: true, Nodes: true}})
	until(t, "an error for each kind", func() bool {
		for _, status := range r.source.Status() {
			if status.Err == nil {
				return false
			}
		}
		return true
	})
	if r.store.Load().Synced {
		t.Error("synced without a server")
	}
	if n := r.log.count("level=ERROR"); n != 1 {
		t.Errorf("%d error lines for one cause:\n%s", n, r.log)
	}
	api.start(addr)
	until(t, "sync", func() bool { return r.store.Load().Synced })
}

func TestKubernetesGoesOnWithoutServiceCIDRs(t *testing.T) {
	for _, reason := range []string{"NotFound", "Forbidden"} {
		t.Run(reason, func(t *testing.T) {
			api := newAPIServer(t)
			api.refuse["servicecidrs"] = reason
			r := runKubernetes(t, api, KubernetesConfig{Want: Want{ServiceCIDRs: true}})
			until(t, "sync", func() bool { return r.store.Load().Synced })
			if r.log.count("going on without servicecidrs") != 1 {
				t.Errorf("log:\n%s", r.log)
			}
		})
	}
}

func TestKubernetesForbiddenIsNotSynced(t *testing.T) {
	api := newAPIServer(t)
	api.refuse["endpointslices"] = "Forbidden"
	r := runKubernetes(t, api, KubernetesConfig{})
	until(t, "the error", func() bool {
		return r.log.count("endpointslices is forbidden; the ClusterRole needs list and watch for endpointslices.discovery.k8s.io; retrying") == 1
	})
	if r.store.Load().Synced {
		t.Error("synced without EndpointSlices")
	}
}

func TestKubernetesServerWithoutFieldSelector(t *testing.T) {
	api := newAPIServer(t)
	api.refuse["services"] = "BadFields"
	api.put("services", apiService("shop", "web", "10.96.0.10"))
	api.put("services", apiService("shop", "headless", "None"))
	r := runKubernetes(t, api, KubernetesConfig{Selection: Selection{NoHeadless: true}})
	r.until(webLine)
	api.put("services", apiService("shop", "web", "None"))
	r.until("")
}

func TestKubernetesNamespaces(t *testing.T) {
	api := newAPIServer(t)
	api.put("services", apiService("shop", "web", "10.96.0.10"))
	api.put("services", apiService("other", "web", "10.96.0.11"))
	api.put("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
	r := runKubernetes(t, api, KubernetesConfig{Selection: Selection{Namespaces: []string{"shop", "empty"}}, Want: Want{Namespaces: true}})
	r.until(webLine)
	one := runKubernetes(t, api, KubernetesConfig{Selection: Selection{Namespaces: []string{"shop"}}})
	until(t, "a request for the one namespace", func() bool { return api.asked("/api/v1/namespaces/shop/services?") > 0 })
	_ = one
}

func TestKubernetesLeavesOutWhatCannotBe(t *testing.T) {
	api := newAPIServer(t)
	broken := apiService("shop", "web", "10.96.0.10")
	broken.Spec.ExternalIPs = []string{"1.2.3.4", "nonsense"}
	broken.Spec.Ports = append(broken.Spec.Ports, corev1.ServicePort{Name: "big", Port: 70000})
	api.put("services", broken)
	api.put("endpointslices", apiSlice("shop", "web-1", "web", "10.244.1.1", "10.244.1.999"))
	r := runKubernetes(t, api, KubernetesConfig{})
	want := webLine + `
slice shop/web-1 10.244.1.1 ready serving host= pod= node=n1 zone=
slice shop/web-1 of shop/web ports=[{http TCP 8080}]`
	r.until(want)
	api.put("services", broken) // the same once more is not logged once more
	api.put("services", apiService("shop", "mark", "10.96.0.11"))
	r.until("service shop/mark ClusterIP ips=[10.96.0.11] ports=http:TCP/80:0\n" + want)
	for _, text := range []string{
		`resource=services object=shop/web problems="spec.externalIPs[1]: \"nonsense\" is not an IP address; spec.ports[1].port: 70000 is not a port (1 to 65535)"`,
		`resource=endpointslices object=shop/web-1 problems="endpoints[1].addresses[0]: \"10.244.1.999\" is not an IP address"`,
	} {
		if n := r.log.count(text); n != 1 {
			t.Errorf("%d log lines %s in:\n%s", n, text, r.log)
		}
	}
}

func TestKubeconfigIsNamedInErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	text := `{apiVersion: v1, kind: Config, current-context: a, clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}],
contexts: [{name: a, context: {cluster: c}}, {name: b, context: {cluster: none}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewKubernetes(KubernetesConfig{Kubeconfig: path, Context: "missing"}); err == nil || !strings.HasPrefix(err.Error(), "kubeconfig "+path+": ") {
		t.Errorf("missing context: %v", err)
	}
	log := &logBook{}
	source, err := NewKubernetes(KubernetesConfig{Kubeconfig: path, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- source.Run(ctx, state.NewStore()) }()
	until(t, "the error", func() bool {
		return log.count("API server http://127.0.0.1:1: connection refused; check --kubeconfig "+path+"; retrying") == 1
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestInflightLimit(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 3)
	limited := limitInflight(2)(roundTrip(func(*http.Request) (*http.Response, error) {
		entered <- struct{}{}
		<-release
		return nil, errors.New("answered")
	}))
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	answers := make(chan error, 3)
	for range 3 {
		go func() { _, err := limited.RoundTrip(request); answers <- err }()
	}
	<-entered
	<-entered
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := limited.RoundTrip(request.WithContext(gone)); !errors.Is(err, context.Canceled) {
		t.Errorf("a third request got past the limit: %v", err)
	}
	if len(entered) != 0 {
		t.Error("three requests at once")
	}
	close(release)
	for range 3 {
		<-answers //nolint:errcheck // the fake server answers with an error
	}
}
