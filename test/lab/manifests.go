package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// Manifests is a cluster without an API server: a directory with one manifest an
// object, which it rewrites as an API server and the controllers would. It is the only
// writer there. Deployments are not written; it plays their controller.
type Manifests struct {
	dir, scratch string
	changed      chan struct{}

	// mu guards what follows.
	mu          sync.Mutex
	objects     map[string]Object // by file name
	deployments map[types.NamespacedName]*appsv1.Deployment
	lastIP      netip.Addr // newest cluster IP given out
}

// firstFreeIP comes after the cluster IPs that manifests name themselves.
var firstFreeIP = netip.MustParseAddr("10.96.0.100")

// NewManifests makes a cluster in an empty directory, with a second directory on the
// same file system for files that are not complete yet.
func NewManifests(dir, scratch string) (*Manifests, error) {
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(scratch, 0o755)); err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	return &Manifests{
		dir: dir, scratch: scratch, changed: make(chan struct{}, 1), lastIP: firstFreeIP,
		objects: make(map[string]Object), deployments: make(map[types.NamespacedName]*appsv1.Deployment),
	}, nil
}

// Changed implements Pods.
func (m *Manifests) Changed() <-chan struct{} { return m.changed }

// Apply adds or replaces objects, with what an API server fills in.
func (m *Manifests) Apply(_ context.Context, objects ...Object) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range objects {
		if err := m.apply(o); err != nil {
			return fmt.Errorf("manifests: %T %s/%s: %w", o, o.GetNamespace(), o.GetName(), err)
		}
	}
	return nil
}

func (m *Manifests) apply(o Object) error {
	switch o := o.(type) {
	case *appsv1.Deployment:
		m.deployments[types.NamespacedName{Namespace: o.Namespace, Name: o.Name}] = o
		return m.scale(o)
	case *corev1.Service:
		m.allocate(o)
	}
	o.SetUID(uuid.NewUUID())
	o.SetCreationTimestamp(metav1.Now())
	return m.put(o)
}

// allocate gives a Service its cluster IP, unless it has or wants none.
func (m *Manifests) allocate(s *corev1.Service) {
	if s.Spec.ClusterIP == "" && s.Spec.Type != corev1.ServiceTypeExternalName {
		m.lastIP = m.lastIP.Next()
		s.Spec.ClusterIP = m.lastIP.String()
	}
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// Scale sets the number of replicas of a Deployment.
func (m *Manifests) Scale(_ context.Context, namespace, name string, replicas int32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, known := m.deployments[types.NamespacedName{Namespace: namespace, Name: name}]
	if !known {
		return fmt.Errorf("manifests: Deployment %s/%s: not applied yet", namespace, name)
	}
	d.Spec.Replicas = &replicas
	return m.scale(d)
}

// scale adds pods or marks the newest for deletion until as many as wanted stay.
func (m *Manifests) scale(d *appsv1.Deployment) error {
	staying := m.podsOf(d)
	var errs []error
	for i := len(staying); i < int(*d.Spec.Replicas); i++ {
		errs = append(errs, m.put(newPod(d)))
	}
	for _, pod := range staying[min(len(staying), int(*d.Spec.Replicas)):] {
		errs = append(errs, m.markDeleted(pod))
	}
	return errors.Join(errs...)
}

// podsOf gives the pods of a Deployment that are not being deleted, oldest first.
func (m *Manifests) podsOf(d *appsv1.Deployment) []*corev1.Pod {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(m.pods(), func(p *corev1.Pod) bool {
		return p.Namespace != d.Namespace || p.DeletionTimestamp != nil || !selector.Matches(labels.Set(p.Labels))
	})
}

func newPod(d *appsv1.Deployment) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: *d.Spec.Template.ObjectMeta.DeepCopy(), Spec: *d.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.Name, pod.UID = d.Namespace, d.Name+"-"+rand.String(5), uuid.NewUUID()
	pod.CreationTimestamp, pod.Status.Phase = metav1.Now(), corev1.PodPending
	return pod
}

// DeletePod marks a pod for deletion; if it belongs to a Deployment, another takes
// its place.
func (m *Manifests) DeletePod(_ context.Context, namespace, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	pod, ok := m.objects[fileName("pod", namespace, name)].(*corev1.Pod)
	if !ok {
		return fmt.Errorf("manifests: pod %s/%s: not found", namespace, name)
	}
	errs := []error{m.markDeleted(pod.DeepCopy())}
	for _, d := range m.deployments {
		errs = append(errs, m.scale(d))
	}
	return errors.Join(errs...)
}

func (m *Manifests) markDeleted(pod *corev1.Pod) error {
	now := metav1.Now()
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, pod.Spec.TerminationGracePeriodSeconds
	return m.put(pod)
}

// List implements Pods.
func (m *Manifests) List(context.Context) ([]*corev1.Pod, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pods(), nil
}

// pods gives copies of all pods, oldest first.
func (m *Manifests) pods() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, o := range m.objects {
		if pod, ok := o.(*corev1.Pod); ok {
			pods = append(pods, pod.DeepCopy())
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return pods
}

// Bind implements Pods.
func (m *Manifests) Bind(_ context.Context, pod *corev1.Pod, node string) error {
	return m.change(pod, func(p *corev1.Pod) { p.Spec.NodeName = node })
}

// PutStatus implements Pods.
func (m *Manifests) PutStatus(_ context.Context, pod *corev1.Pod, status corev1.PodStatus) error {
	return m.change(pod, func(p *corev1.Pod) { p.Status = status })
}

// change rewrites a pod that is still there.
func (m *Manifests) change(pod *corev1.Pod, edit func(*corev1.Pod)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	present, ok := m.objects[fileName("pod", pod.Namespace, pod.Name)].(*corev1.Pod)
	if !ok {
		return fmt.Errorf("manifests: pod %s/%s: not found", pod.Namespace, pod.Name)
	}
	present = present.DeepCopy()
	edit(present)
	return m.put(present)
}

// Remove implements Pods.
func (m *Manifests) Remove(_ context.Context, pod *corev1.Pod) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := fileName("pod", pod.Namespace, pod.Name)
	delete(m.objects, name)
	m.notify()
	if err := os.Remove(filepath.Join(m.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("manifests: %w", err)
	}
	return nil
}

// Service gives a Service as it is now.
func (m *Manifests) Service(_ context.Context, namespace, name string) (*corev1.Service, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.objects[fileName("service", namespace, name)].(*corev1.Service)
	if !ok {
		return nil, fmt.Errorf("manifests: Service %s/%s: not found", namespace, name)
	}
	return s.DeepCopy(), nil
}

// put stores an object and replaces its file in one step.
func (m *Manifests) put(o Object) error {
	text, err := formatObject(o)
	if err != nil {
		return err
	}
	name := fileName(strings.ToLower(o.GetObjectKind().GroupVersionKind().Kind), o.GetNamespace(), o.GetName())
	incomplete := filepath.Join(m.scratch, name)
	if err := os.WriteFile(incomplete, text, 0o644); err != nil {
		return err
	}
	if err := os.Rename(incomplete, filepath.Join(m.dir, name)); err != nil {
		return err
	}
	m.objects[name] = o
	m.notify()
	return nil
}

func (m *Manifests) notify() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func fileName(kind, namespace, name string) string {
	if namespace == "" {
		return kind + "." + name + ".yaml"
	}
	return kind + "." + namespace + "." + name + ".yaml"
}
