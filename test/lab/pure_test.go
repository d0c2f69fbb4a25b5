package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodAddresses(t *testing.T) {
	got, err := podAddresses(2, 17)
	if err != nil || got.V4.String() != "10.244.2.17" || got.V6.String() != "fd00:10:244:2::17" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, number := range []int{0, 255} {
		if _, err := podAddresses(1, number); err == nil {
			t.Errorf("pod number %d: no error", number)
		}
	}
	v4, v6 := podRanges(2)
	if !v4.Contains(got.V4) || !v6.Contains(got.V6) || !PodRange4.Contains(got.V4) || !PodRange6.Contains(got.V6) {
		t.Error("the address is not in the node's range")
	}
}

func TestCommandLine(t *testing.T) {
	images := map[string]Image{"web": {Entrypoint: []string{"/bin/lab", "web"}}, "busybox": {}}
	for _, c := range []struct {
		name      string
		container corev1.Container
		want      []string
	}{
		{"entrypoint", corev1.Container{Image: "web"}, []string{"/bin/lab", "web"}},
		{"entrypoint and arguments", corev1.Container{Image: "web", Args: []string{"-v"}}, []string{"/bin/lab", "web", "-v"}},
		{"own command", corev1.Container{Image: "web", Command: []string{"sleep"}, Args: []string{"1"}}, []string{"sleep", "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := commandLine(c.container, images)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for name, bad := range map[string]corev1.Container{
		"unknown image":  {Image: "nginx"},
		"nothing to run": {Image: "busybox"},
	} {
		if _, err := commandLine(bad, images); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPodStatusSaysWhatIsReady(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web"}}}}
	own, err := podAddresses(1, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, ready := range []bool{false, true} {
		pod.Status = podStatus(pod, own, onUnderlay(11), metav1.Now(), ready)
		if IsReady(pod) != ready || pod.Status.PodIP != "10.244.1.2" || len(pod.Status.PodIPs) != 2 {
			t.Errorf("ready %t: got %+v", ready, pod.Status)
		}
	}
	now := metav1.Now()
	if pod.DeletionTimestamp = &now; IsReady(pod) {
		t.Error("a pod that is being deleted counts as ready")
	}
}

func TestPreStopSleep(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{}}}}
	if got := preStopSleep(pod); got != 0 {
		t.Errorf("without a hook: %s", got)
	}
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 2}}}
	if got := preStopSleep(pod); got != 2*time.Second {
		t.Errorf("with a hook: %s", got)
	}
}

func TestLogbook(t *testing.T) {
	book := NewLogbook()
	book.Page("silent")
	fmt.Fprint(book.Page("b"), "same\nsame\nsame\nlast\n")
	fmt.Fprint(book.Page("a"), "once")
	var out strings.Builder
	if _, err := book.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	want := "--- a ---\nonce\n--- b ---\nsame (3 times)\nlast\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLogbookKeepsTheLastLines(t *testing.T) {
	book := NewLogbook()
	for i := range 10000 {
		fmt.Fprintf(book.Page("p"), "line %d\n", i)
	}
	var out strings.Builder
	if _, err := book.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 2*pageLimit || !strings.HasSuffix(out.String(), "line 9999\n") || !strings.Contains(out.String(), "left out") {
		t.Errorf("%d bytes, ending in %q", out.Len(), out.String()[max(0, out.Len()-20):])
	}
}

func TestManifestsGiveClusterIPsAndWriteWholeFiles(t *testing.T) {
	dir := t.TempDir()
	m, err := NewManifests(filepath.Join(dir, "m"), filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := ParseObjects([]byte(`
apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: default}
spec: {clusterIP: None, ports: [{port: 80}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "10.96.0.101", "b": "None"} {
		s, err := m.Service(t.Context(), "default", name)
		if err != nil || s.Spec.ClusterIP != want {
			t.Errorf("Service %s: %+v, %v, want clusterIP %s", name, s, err, want)
		}
		text, err := os.ReadFile(filepath.Join(dir, "m", "service.default."+name+".yaml"))
		if err != nil || !strings.Contains(string(text), "clusterIP: "+want) || !strings.Contains(string(text), "kind: Service") {
			t.Errorf("file of %s: %v\n%s", name, err, text)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "s")); err != nil || len(left) > 0 {
		t.Errorf("incomplete files are left: %v, %v", left, err)
	}
	if _, err := m.Service(t.Context(), "default", "c"); err == nil {
		t.Error("a Service that was not applied is found")
	}
}
