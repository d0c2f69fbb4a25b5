package lab

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// Pods is where the kubelet stand-in learns of pods and reports them: an API server or
// a directory of manifests. Its methods may be called from several goroutines; the
// pods it returns may be kept and changed.
type Pods interface {
	// Changed has a value after every change since the last receive.
	Changed() <-chan struct{}
	// List gives all pods of the cluster.
	List(ctx context.Context) ([]*corev1.Pod, error)
	// Bind assigns a pod to a node.
	Bind(ctx context.Context, pod *corev1.Pod, node string) error
	// PutStatus replaces the status of a pod.
	PutStatus(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) error
	// Remove ends the existence of a pod whose processes are gone.
	Remove(ctx context.Context, pod *corev1.Pod) error
}
