package lab

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Kubernetes is a cluster with a real API server and controller manager.
type Kubernetes struct {
	client   kubernetes.Interface
	informer informers.SharedInformerFactory
	pods     listers.PodLister
	changed  chan struct{}
}

// NewKubernetes makes a client; Run has to be running for Changed and List to work.
func NewKubernetes(config *rest.Config) (*Kubernetes, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	k := &Kubernetes{client: client, informer: informers.NewSharedInformerFactory(client, 0), changed: make(chan struct{}, 1)}
	pods := k.informer.Core().V1().Pods()
	k.pods = pods.Lister()
	_, err = pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { k.notify() },
		UpdateFunc: func(any, any) { k.notify() },
		DeleteFunc: func(any) { k.notify() },
	})
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return k, nil
}

func (k *Kubernetes) notify() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// Run watches pods until the end of ctx.
func (k *Kubernetes) Run(ctx context.Context) error {
	k.informer.Start(ctx.Done())
	<-ctx.Done()
	k.informer.Shutdown()
	return nil
}

// Changed implements Pods.
func (k *Kubernetes) Changed() <-chan struct{} { return k.changed }

// List implements Pods.
func (k *Kubernetes) List(context.Context) ([]*corev1.Pod, error) {
	pods, err := k.pods.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for i, pod := range pods {
		pods[i] = pod.DeepCopy()
	}
	return pods, nil
}

// Bind implements Pods, as the scheduler does it.
func (k *Kubernetes) Bind(ctx context.Context, pod *corev1.Pod, node string) error {
	err := k.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // bound already or gone; the list was older than that
	}
	return err
}

// PutStatus implements Pods.
func (k *Kubernetes) PutStatus(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) error {
	patch, err := statusPatch(pod.UID, status)
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// statusPatch replaces the status of the object with that UID, whatever version of it
// is present; of another it is refused.
func statusPatch(uid types.UID, status any) ([]byte, error) {
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": status})
}

// Remove implements Pods.
func (k *Kubernetes) Remove(ctx context.Context, pod *corev1.Pod) error {
	now := int64(0)
	err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// Apply creates objects; Nodes get their status, too.
func (k *Kubernetes) Apply(ctx context.Context, objects ...Object) error {
	for _, o := range objects {
		if err := k.create(ctx, o); err != nil {
			return fmt.Errorf("kubernetes: create %T %s/%s: %w", o, o.GetNamespace(), o.GetName(), err)
		}
	}
	return nil
}

func (k *Kubernetes) create(ctx context.Context, o Object) error {
	core, none := k.client.CoreV1(), metav1.CreateOptions{}
	var err error
	switch o := o.(type) {
	case *corev1.Namespace:
		_, err = core.Namespaces().Create(ctx, o, none)
	case *corev1.Node:
		return k.createNode(ctx, o)
	case *corev1.Pod:
		_, err = core.Pods(o.Namespace).Create(ctx, o, none)
	case *corev1.Service:
		_, err = core.Services(o.Namespace).Create(ctx, o, none)
	case *appsv1.Deployment:
		_, err = k.client.AppsV1().Deployments(o.Namespace).Create(ctx, o, none)
	default:
		err = fmt.Errorf("this kind is not used in the lab")
	}
	if apierrors.IsAlreadyExists(err) {
		return nil // the namespaces default and kube-system
	}
	return err
}

func (k *Kubernetes) createNode(ctx context.Context, node *corev1.Node) error {
	created, err := k.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	patch, err := statusPatch(created.UID, node.Status)
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// Scale sets the number of replicas of a Deployment.
func (k *Kubernetes) Scale(ctx context.Context, namespace, name string, replicas int32) error {
	_, err := k.client.AppsV1().Deployments(namespace).UpdateScale(ctx, name, &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       autoscalingv1.ScaleSpec{Replicas: replicas},
	}, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("kubernetes: scale Deployment %s/%s: %w", namespace, name, err)
	}
	return nil
}

// DeletePod deletes a pod in order.
func (k *Kubernetes) DeletePod(ctx context.Context, namespace, name string) error {
	if err := k.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	return nil
}

// Service gives a Service as it is now.
func (k *Kubernetes) Service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	s, err := k.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return s, nil
}
