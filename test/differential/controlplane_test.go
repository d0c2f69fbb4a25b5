package differential

import (
	"context"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/test/controlplane"
)

// TestSameAnswersFromARealAPIServer compares two servers on the network that watch a
// real API server, which has a random cluster, as far as it accepts one.
func TestSameAnswersFromARealAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real control plane, which takes seconds, and its first build minutes: left out by -short")
	}
	seed := chosenSeed(t)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	plane, err := controlplane.Start(ctx, controlplane.Options{
		ServiceCIDR: controlplane.DualStackServiceCIDR, NoControllerManager: true, Log: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	g := newGenerator(seed)
	objects := fill(t, plane, g.cluster(30))
	w := &world{now: objects}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	var list []stanza
	for _, s := range chosenStanzas() {
		if s.name != "multicluster" { // the API server has no ServiceImport
			list = append(list, s)
		}
	}
	if err := w.addStanzas(list, "kubeconfig "+plane.Kubeconfig()); err != nil {
		t.Fatal(err)
	}
	for _, s := range w.servers {
		s.remote = true
	}
	count, from := newTally(), derive(objects)
	for _, p := range w.pairs {
		for range *queriesFlag / 10 {
			count.compareOne(t, w, p, g.query(from), seed)
		}
	}
	count.log(t)
}

// fill creates objects and gives those that the API server has then.
func fill(t *testing.T, plane *controlplane.ControlPlane, c cluster) cluster {
	t.Helper()
	config := plane.RESTConfig()
	config.QPS, config.Burst = 500, 500
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	try := func(err error) {
		if err != nil {
			refused++
			t.Logf("not accepted: %v", err)
		}
	}
	f := filler{ctx: t.Context(), client: client}
	each(c, func(n *corev1.Namespace) {
		if n.Name == "default" || n.Name == "kube-system" {
			return
		}
		try(f.namespace(n))
	})
	each(c, func(s *corev1.Service) { try(f.service(s)) })
	each(c, func(s *discoveryv1.EndpointSlice) { try(f.slice(s)) })
	each(c, func(p *corev1.Pod) { try(f.pod(p)) })
	if refused > len(c)*3/4 {
		t.Fatalf("the API server accepted only %d of %d objects", len(c)-refused, len(c))
	}
	there, err := f.everything()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d objects, %d not accepted", len(there), refused)
	return there
}

// filler creates objects with their status.
type filler struct {
	ctx    context.Context
	client kubernetes.Interface
}

func (f filler) namespace(n *corev1.Namespace) error {
	_, err := f.client.CoreV1().Namespaces().Create(f.ctx, n, metav1.CreateOptions{})
	return err
}

func (f filler) service(s *corev1.Service) error {
	created, err := f.client.CoreV1().Services(s.Namespace).Create(f.ctx, s, metav1.CreateOptions{})
	if err != nil || len(s.Status.LoadBalancer.Ingress) == 0 {
		return err
	}
	created.Status = s.Status
	_, err = f.client.CoreV1().Services(s.Namespace).UpdateStatus(f.ctx, created, metav1.UpdateOptions{})
	return err
}

func (f filler) slice(s *discoveryv1.EndpointSlice) error {
	_, err := f.client.DiscoveryV1().EndpointSlices(s.Namespace).Create(f.ctx, s, metav1.CreateOptions{})
	return err
}

func (f filler) pod(p *corev1.Pod) error {
	with := p.DeepCopy()
	with.DeletionTimestamp = nil
	with.Spec.Containers = []corev1.Container{{Name: "c", Image: "example.org/c"}}
	created, err := f.client.CoreV1().Pods(p.Namespace).Create(f.ctx, with, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	created.Status = p.Status
	_, err = f.client.CoreV1().Pods(p.Namespace).UpdateStatus(f.ctx, created, metav1.UpdateOptions{})
	return err
}

// everything reads all objects back, with the defaults that the API server put in.
func (f filler) everything() (cluster, error) {
	c := make(cluster)
	all := metav1.ListOptions{}
	services, err := f.client.CoreV1().Services("").List(f.ctx, all)
	if err != nil {
		return nil, err
	}
	slices, err := f.client.DiscoveryV1().EndpointSlices("").List(f.ctx, all)
	if err != nil {
		return nil, err
	}
	pods, err := f.client.CoreV1().Pods("").List(f.ctx, all)
	if err != nil {
		return nil, err
	}
	namespaces, err := f.client.CoreV1().Namespaces().List(f.ctx, all)
	if err != nil {
		return nil, err
	}
	addItems(c, services.Items, func(o *corev1.Service) object { return o })
	addItems(c, slices.Items, func(o *discoveryv1.EndpointSlice) object { return o })
	addItems(c, pods.Items, func(o *corev1.Pod) object { return o })
	addItems(c, namespaces.Items, func(o *corev1.Namespace) object { return o })
	return c, nil
}

func addItems[T any](c cluster, items []T, as func(*T) object) {
	for i := range items {
		o := as(&items[i])
		o.SetManagedFields(nil)
		c.add(o)
	}
}
