package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A worker runs one pod from its sandbox to its removal. A pod has one container.
type worker struct {
	kubelet *Kubelet
	node    *Node
	pod     *corev1.Pod
	started metav1.Time

	sandbox atomic.Pointer[Sandbox] // set once the pod has its addresses

	// deleted is closed when the pod is to end in order, gone when its object is
	// away already.
	deleted, gone       chan struct{}
	onceDeleted, onceGo sync.Once
}

const (
	probeWhileStarting = 100 * time.Millisecond
	probeWhenReady     = time.Second
	firstRestartDelay  = 200 * time.Millisecond
	lastRestartDelay   = 5 * time.Second
	reportTimeout      = 20 * time.Second
)

func newWorker(k *Kubelet, node *Node, pod *corev1.Pod) *worker {
	return &worker{
		kubelet: k, node: node, pod: pod, started: metav1.Now(),
		deleted: make(chan struct{}), gone: make(chan struct{}),
	}
}

func (w *worker) terminate() { w.onceDeleted.Do(func() { close(w.deleted) }) }
func (w *worker) vanish()    { w.onceGo.Do(func() { close(w.gone) }) }

func (w *worker) run(ctx context.Context) error {
	mounts, err := w.mounts()
	if err != nil {
		return err
	}
	sandbox, err := w.node.NewSandbox(w.pod.Name, mounts...)
	if err != nil {
		return err
	}
	sandbox.Path = w.kubelet.Images[w.pod.Spec.Containers[0].Image].Path
	w.sandbox.Store(sandbox)
	err = w.runContainers(ctx)
	w.sandbox.Store(nil)
	if failed := sandbox.Remove(); failed != nil && err == nil {
		err = failed
	}
	if w.isClosed(w.deleted) && ctx.Err() == nil {
		if failed := w.kubelet.Pods.Remove(ctx, w.pod); failed != nil && err == nil {
			err = failed
		}
	}
	return err
}

// mounts writes the pod's own resolv.conf and adds it to what all pods have.
func (w *worker) mounts() ([]Mount, error) {
	dir := filepath.Join(RunDir, "pods", string(w.pod.UID))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(path, []byte(resolvConf(w.pod.Namespace)), 0o644); err != nil {
		return nil, err
	}
	return append([]Mount{{From: path, To: resolvConfPath}}, w.kubelet.Mounts...), nil
}

// runContainers runs the container, again whenever it ends, until the pod is to end.
func (w *worker) runContainers(ctx context.Context) error {
	command, err := w.command()
	if err != nil {
		return err
	}
	for delay := firstRestartDelay; ; delay = min(2*delay, lastRestartDelay) {
		process, err := w.sandbox.Load().Start(command)
		if err != nil {
			return err
		}
		if over := w.attend(ctx, process); over {
			return nil
		}
		w.kubelet.Log.Warn("container ended", "pod", w.pod.Namespace+"/"+w.pod.Name, "error", process.Err())
		if err := w.report(ctx, false); err != nil {
			return err
		}
		select {
		case <-time.After(delay):
		case <-w.deleted:
			return nil
		case <-w.gone:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// attend probes a running container and reports its readiness. It returns whether
// the pod is over; else the process ended by itself.
func (w *worker) attend(ctx context.Context, process *Process) (over bool) {
	ready, reported := false, false
	for {
		now := w.probe(ctx)
		if now != ready || !reported {
			if err := w.report(ctx, now); err != nil {
				w.kubelet.Log.Warn("report", "pod", w.pod.Namespace+"/"+w.pod.Name, "error", err)
			} else {
				ready, reported = now, true
			}
		}
		pause := probeWhileStarting
		if ready {
			pause = probeWhenReady
		}
		select {
		case <-time.After(pause):
		case <-process.Done():
			return false
		case <-w.gone:
			process.Stop(0)
			return true
		case <-ctx.Done():
			process.Stop(0)
			return true
		case <-w.deleted:
			w.shutdown(ctx, process)
			return true
		}
	}
}

// shutdown ends a container in order: it goes on serving for as long as its preStop
// hook sleeps, while its endpoint is already terminating, then it is asked to end.
func (w *worker) shutdown(ctx context.Context, process *Process) {
	grace := 30 * time.Second
	if s := w.pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	deadline := time.Now().Add(grace)
	select {
	case <-time.After(min(preStopSleep(w.pod), grace)):
	case <-ctx.Done():
	case <-w.gone:
	}
	process.Stop(max(0, time.Until(deadline)))
}

func (w *worker) report(ctx context.Context, ready bool) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	status := podStatus(w.pod, w.sandbox.Load().Addresses, w.node.Addresses, w.started, ready)
	if err := w.kubelet.Pods.PutStatus(ctx, w.pod, status); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

func (w *worker) command() (Command, error) {
	c := w.pod.Spec.Containers[0]
	args, err := commandLine(c, w.kubelet.Images)
	if err != nil {
		return Command{}, err
	}
	env := append([]string{}, w.kubelet.Env...)
	for _, e := range c.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	return Command{Args: args, Env: env, Output: w.kubelet.Output(w.pod.Namespace + "-" + w.pod.Name)}, nil
}

// probe asks the container's readiness probe; without one a container that runs is
// ready.
func (w *worker) probe(ctx context.Context) bool {
	p := w.pod.Spec.Containers[0].ReadinessProbe
	return p == nil || probe(ctx, w.node.Namespace, w.sandbox.Load().V4, p) == nil
}

func (w *worker) isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
