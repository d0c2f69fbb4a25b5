package lab

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// resolvConf is what the kubelet writes for a pod with dnsPolicy ClusterFirst.
func resolvConf(namespace string) string {
	return fmt.Sprintf("search %s.svc.cluster.local svc.cluster.local cluster.local\nnameserver %s\noptions ndots:5\n", namespace, DNSAddress)
}

// An Image stands in for a container image.
type Image struct {
	// Entrypoint is what runs, unless the container has a command of its own.
	Entrypoint []string
	// Path is PATH inside; empty stands for the lab's own.
	Path string
}

// commandLine is what a container runs: its command or else the image's, then its
// arguments.
func commandLine(c corev1.Container, images map[string]Image) ([]string, error) {
	image, known := images[c.Image]
	entrypoint := image.Entrypoint
	switch {
	case !known:
		return nil, fmt.Errorf("container %s: image %q: not one of this lab", c.Name, c.Image)
	case len(c.Command) > 0:
		entrypoint = c.Command
	}
	if args := slices.Concat(entrypoint, c.Args); len(args) > 0 {
		return args, nil
	}
	return nil, fmt.Errorf("container %s: neither command, args nor an entrypoint of image %s", c.Name, c.Image)
}

// preStopSleep is how long the container's preStop hook sleeps.
func preStopSleep(pod *corev1.Pod) time.Duration {
	hooks := pod.Spec.Containers[0].Lifecycle
	if hooks == nil || hooks.PreStop == nil || hooks.PreStop.Sleep == nil {
		return 0
	}
	return time.Duration(hooks.PreStop.Sleep.Seconds) * time.Second
}

// podStatus is the status of a pod whose container runs, as a kubelet reports it.
func podStatus(pod *corev1.Pod, own, node Addresses, started metav1.Time, ready bool) corev1.PodStatus {
	condition := corev1.ConditionFalse
	if ready {
		condition = corev1.ConditionTrue
	}
	status := corev1.PodStatus{
		Phase:     corev1.PodRunning,
		HostIP:    node.V4.String(),
		PodIP:     own.V4.String(),
		PodIPs:    []corev1.PodIP{{IP: own.V4.String()}, {IP: own.V6.String()}},
		StartTime: &started,
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image, Ready: ready,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}},
		}},
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{
			Type: kind, Status: condition, LastTransitionTime: metav1.Now(),
		})
	}
	return status
}

// IsReady tells whether the pod serves and is to go on serving.
func IsReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
