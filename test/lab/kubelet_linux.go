package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A Kubelet stands in for the scheduler and the kubelets of all nodes: it binds pods
// to nodes in turn and runs each pod in a Sandbox.
type Kubelet struct {
	Network *Network
	Pods    Pods
	// Images are what the image names in pods stand for.
	Images map[string]Image
	// Mounts are made in every pod, as a service account's token is.
	Mounts []Mount
	// Env is in the environment of every container.
	Env []string
	// Log receives what goes wrong with pods.
	Log *slog.Logger
	// Output opens the place for what a container prints.
	Output func(pod string) io.Writer

	// mu guards running.
	mu      sync.Mutex
	running map[types.UID]*worker

	workers sync.WaitGroup
	// bound remembers the nodes given to pods, since a list may be older; used by Run's
	// goroutine only.
	bound map[types.UID]string
}

// Run runs pods until the end of ctx, then ends them all and returns.
func (k *Kubelet) Run(ctx context.Context) error {
	k.running, k.bound = make(map[types.UID]*worker), make(map[types.UID]string)
	defer k.workers.Wait()
	for {
		if err := k.sync(ctx); err != nil && ctx.Err() == nil {
			k.Log.Warn("sync", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.Pods.Changed():
		}
	}
}

// sync gives every pod of the present list a worker, and every worker the newest pod.
func (k *Kubelet) sync(ctx context.Context) error {
	pods, err := k.Pods.List(ctx)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var errs []error
	present := make(map[types.UID]bool)
	for _, pod := range pods {
		present[pod.UID] = true
		errs = append(errs, k.syncPod(ctx, pod, pods))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for uid, w := range k.running {
		if !present[uid] {
			w.vanish()
		}
	}
	return errors.Join(errs...)
}

func (k *Kubelet) syncPod(ctx context.Context, pod *corev1.Pod, all []*corev1.Pod) error {
	k.mu.Lock()
	w := k.running[pod.UID]
	k.mu.Unlock()
	switch {
	case w != nil && pod.DeletionTimestamp != nil:
		w.terminate()
		return nil
	case w != nil:
		return nil
	case pod.DeletionTimestamp != nil:
		return k.Pods.Remove(ctx, pod)
	case pod.Spec.NodeName == "":
		return k.bind(ctx, pod, all)
	}
	node, err := k.Network.Node(pod.Spec.NodeName)
	if err != nil {
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	k.start(ctx, node, pod)
	return nil
}

// bind chooses the node; the change that follows from it brings the pod back here.
func (k *Kubelet) bind(ctx context.Context, pod *corev1.Pod, all []*corev1.Pod) error {
	if k.bound[pod.UID] != "" {
		return nil
	}
	node := k.emptiest(pod, all)
	if err := k.Pods.Bind(ctx, pod, node); err != nil {
		return fmt.Errorf("pod %s/%s: bind to %s: %w", pod.Namespace, pod.Name, node, err)
	}
	k.bound[pod.UID] = node
	return nil
}

// emptiest is the node with the fewest pods of the same labels, so that replicas are
// spread, and among those the one with the fewest pods.
func (k *Kubelet) emptiest(pod *corev1.Pod, all []*corev1.Pod) string {
	replicas, total := make(map[string]int), make(map[string]int)
	for _, other := range all {
		node := cmp.Or(other.Spec.NodeName, k.bound[other.UID])
		total[node]++
		if other.DeletionTimestamp == nil && other.Namespace == pod.Namespace && maps.Equal(other.Labels, pod.Labels) {
			replicas[node]++
		}
	}
	return slices.MinFunc(k.Network.Nodes, func(a, b *Node) int {
		return cmp.Or(replicas[a.Name]-replicas[b.Name], total[a.Name]-total[b.Name])
	}).Name
}

func (k *Kubelet) start(ctx context.Context, node *Node, pod *corev1.Pod) {
	w := newWorker(k, node, pod)
	k.mu.Lock()
	k.running[pod.UID] = w
	k.mu.Unlock()
	k.workers.Go(func() {
		if err := w.run(ctx); err != nil && ctx.Err() == nil {
			k.Log.Warn("pod", "pod", pod.Namespace+"/"+pod.Name, "error", err)
		}
		k.mu.Lock()
		delete(k.running, pod.UID)
		k.mu.Unlock()
	})
}

// Sandbox gives the sandbox of a running pod, to run commands in as kubectl exec does.
func (k *Kubelet) Sandbox(namespace, name string) (*Sandbox, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.running {
		if w.pod.Namespace == namespace && w.pod.Name == name {
			if s := w.sandbox.Load(); s != nil {
				return s, nil
			}
		}
	}
	return nil, fmt.Errorf("pod %s/%s: does not run here", namespace, name)
}
