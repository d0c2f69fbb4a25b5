package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mooring-project/mooring/test/controlplane"
)

// buildTimeout allows for a first build of everything on a slow machine.
const buildTimeout = 25 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestControlPlane starts one control plane and lets the subtests use it in
// order: each start costs seconds.
func TestControlPlane(t *testing.T) {
	c := start(t, controlplane.Options{
		ServiceCIDR:      controlplane.DualStackServiceCIDR,
		AdvertiseAddress: netip.MustParseAddr("172.30.0.254"),
		ExtraSANs:        []string{"api.mooring.test"},
		Users:            []controlplane.User{{Name: "proxy", Groups: []string{"mooring"}}},
	})
	client := clientFor(t, c)

	t.Run("default kubernetes points to the advertised address", func(t *testing.T) { testAdvertised(t, c, client) })
	t.Run("deployment to endpoint slice", func(t *testing.T) { testEndpoints(t, client) })
	t.Run("extra user has no rights", func(t *testing.T) { testExtraUser(t, c) })
	t.Run("certificate names", func(t *testing.T) { testCertificateNames(t, c) })
	t.Run("outage keeps data and address", func(t *testing.T) { testOutage(t, c, client) })
	t.Run("stop leaves nothing", func(t *testing.T) { testStop(t, c) })
}

func start(t *testing.T, o controlplane.Options) *controlplane.ControlPlane {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real control plane, which takes seconds, and its first build minutes: left out by -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	dir, err := controlplane.Build(ctx, testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	o.BinDir = dir
	began := time.Now()
	c, err := controlplane.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	return c
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func clientFor(t *testing.T, c *controlplane.ControlPlane) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// eventually repeats check until it returns nil; its last error fails the test.
func eventually(t *testing.T, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still after a minute: %v", last)
		case <-tick.C:
		}
	}
}

func testAdvertised(t *testing.T, c *controlplane.ControlPlane, client kubernetes.Interface) {
	service, err := client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := service.Spec.ClusterIP, "10.96.0.1"; got != want {
		t.Errorf("cluster IP of default/kubernetes: %s, want %s", got, want)
	}
	slice, err := client.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprintf("172.30.0.254:%d", c.Port())}
	if diff := cmp.Diff(want, addresses(slice)); diff != "" {
		t.Errorf("endpoints of default/kubernetes (-want +got):\n%s", diff)
	}
}

// addresses lists the ready address:port pairs of a slice.
func addresses(slices ...*discoveryv1.EndpointSlice) []string {
	var list []string
	for _, slice := range slices {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, p := range slice.Ports {
				list = append(list, net.JoinHostPort(e.Addresses[0], fmt.Sprint(*p.Port)))
			}
		}
	}
	return list
}

func testEndpoints(t *testing.T, client kubernetes.Interface) {
	const ns = "story"
	create(t, client, ns)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}
	if _, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := pendingPods(t, client, ns, 2)
	var want []string
	for i, pod := range pods {
		address := fmt.Sprintf("10.244.1.%d", 10+i)
		playKubelet(t, client, pod, node.Name, address)
		want = append(want, address+":8080")
	}
	eventually(t, func(ctx context.Context) error {
		got, err := serviceAddresses(ctx, client, ns, "web")
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("endpoints of %s/web (-want +got):\n%s", ns, diff)
		}
		return nil
	})
}

// create makes a namespace with a deployment of two and a dual-stack service
// before it.
func create(t *testing.T, client kubernetes.Interface, ns string) {
	t.Helper()
	ctx := t.Context()
	labels := map[string]string{"app": "web"}
	_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	replicas := int32(2)
	_, err = client.AppsV1().Deployments(ns).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	both := corev1.IPFamilyPolicyRequireDualStack
	service, err := client.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Selector:       labels,
			IPFamilyPolicy: &both,
			Ports:          []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkClusterIPs(t, service)
}

func checkClusterIPs(t *testing.T, service *corev1.Service) {
	t.Helper()
	ranges := strings.Split(controlplane.DualStackServiceCIDR, ",")
	if got, want := len(service.Spec.ClusterIPs), len(ranges); got != want {
		t.Fatalf("cluster IPs %v: %d, want %d", service.Spec.ClusterIPs, got, want)
	}
	for i, text := range service.Spec.ClusterIPs {
		if !netip.MustParsePrefix(ranges[i]).Contains(netip.MustParseAddr(text)) {
			t.Errorf("cluster IP %s: not in %s", text, ranges[i])
		}
	}
}

// pendingPods waits until the controllers made n pods, and returns them
// sorted by name.
func pendingPods(t *testing.T, client kubernetes.Interface, ns string, n int) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	eventually(t, func(ctx context.Context) error {
		list, err := client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(list.Items) != n {
			return fmt.Errorf("%d pods in %s, want %d", len(list.Items), ns, n)
		}
		pods = list.Items
		return nil
	})
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

// playKubelet does to a pod what scheduler and kubelet would: bind it to a
// node, which has to exist, and report it running with an address.
func playKubelet(t *testing.T, client kubernetes.Interface, pod corev1.Pod, node, address string) {
	t.Helper()
	ctx := t.Context()
	err := client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	current, err := client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	current.Status.Phase = corev1.PodRunning
	current.Status.PodIP = address
	current.Status.PodIPs = []corev1.PodIP{{IP: address}}
	current.Status.Conditions = append(current.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	if _, err := client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, current, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func serviceAddresses(ctx context.Context, client kubernetes.Interface, ns, service string) ([]string, error) {
	list, err := client.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service,
	})
	if err != nil {
		return nil, err
	}
	var all []string
	for i := range list.Items {
		all = append(all, addresses(&list.Items[i])...)
	}
	slices.Sort(all)
	return all, nil
}

func testExtraUser(t *testing.T, c *controlplane.ControlPlane) {
	path := filepath.Join(t.TempDir(), "proxy.kubeconfig")
	if err := c.WriteKubeconfig(path, "", "proxy"); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("list services as proxy: %v, want forbidden", err)
	}
	if err := c.WriteKubeconfig(path, "", "nobody"); err == nil {
		t.Error("kubeconfig for a user who does not exist: no error")
	}
}

// testCertificateNames reaches the server by its address, checking the
// certificate for the names by which others will reach it.
func testCertificateNames(t *testing.T, c *controlplane.ControlPlane) {
	for _, name := range []string{"api.mooring.test", "kubernetes.default.svc", "10.96.0.1", "fd00:10:96::1", "172.30.0.254"} {
		config := c.RESTConfig()
		config.ServerName = name
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Discovery().ServerVersion(); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
}

func testOutage(t *testing.T, c *controlplane.ControlPlane, client kubernetes.Interface) {
	c.StopAPIServer()
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), "story", metav1.GetOptions{}); err == nil {
		t.Error("API answers while stopped")
	}
	c.StopAPIServer()
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(t.Context()); err == nil {
		t.Error("second start of a running API server: no error")
	}
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), "story", metav1.GetOptions{}); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	testAdvertised(t, c, client)
}

func testStop(t *testing.T, c *controlplane.ControlPlane) {
	dir := filepath.Dir(c.LogDir())
	if got := processesIn(t, dir); len(got) != 3 {
		t.Errorf("processes before: %q, want etcd, kube-apiserver, kube-controller-manager", got)
	}
	c.Stop()
	if got := processesIn(t, dir); len(got) != 0 {
		t.Errorf("processes after: %q", got)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory %s after: %v, want it gone", dir, err)
	}
	if err := c.StartAPIServer(t.Context()); err == nil {
		t.Error("start of the API server after Stop: no error")
	}
	c.Stop()
}

// processesIn lists the programs whose working directory is dir.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, link := range links {
		if cwd, err := os.Readlink(link); err != nil || strings.TrimSuffix(cwd, " (deleted)") != dir {
			continue
		}
		name, err := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
		if err == nil {
			names = append(names, strings.TrimSpace(string(name)))
		}
	}
	return names
}

// A cancelled context ends everything, as an interrupted test would.
func TestStartEndsWithContext(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real control plane: left out by -short")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	c, err := controlplane.Start(ctx, controlplane.Options{Dir: dir, NoControllerManager: true, Log: testLog{t}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	cancel()
	eventually(t, func(context.Context) error {
		if names := processesIn(t, dir); len(names) > 0 {
			return fmt.Errorf("processes: %q", names)
		}
		return nil
	})
}

// A component that refuses its flags is named in the error, with its log.
func TestStartReportsTheFailingComponent(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real control plane: left out by -short")
	}
	dir := t.TempDir()
	_, err := controlplane.Start(t.Context(), controlplane.Options{
		Dir:            dir,
		Log:            testLog{t},
		APIServerFlags: []string{"--authorization-mode=Nonsense"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"kube-apiserver: ended", "Nonsense"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%v", want, err)
		}
	}
	if names := processesIn(t, dir); len(names) > 0 {
		t.Errorf("processes left: %q", names)
	}
}

func TestStartInDirectoryTooLongForSockets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	_, err := controlplane.Start(t.Context(), controlplane.Options{Dir: dir, BinDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("error %v, want one about the length", err)
	}
}
