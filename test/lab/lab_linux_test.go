package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestMain runs the tests in a lab of their own, which takes everything with it. As
// "web" and "ask" it is the program of the pods.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "web" {
		if err := ServeWeb(context.Background(), ":80"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if os.Geteuid() != 0 || Inside() {
		if Inside() {
			if err := EnterIsolation(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	status, err := Isolate(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

// needRoot ends a test that makes namespaces when we may not.
func needRoot(t *testing.T) {
	t.Helper()
	if Inside() {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("namespaces need root")
	}
	t.Skip("namespaces need root")
}

func testNetwork(t *testing.T) *Network {
	t.Helper()
	needRoot(t)
	n, err := NewNetwork(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func run(t *testing.T, ns *Namespace, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, status, err := ns.Exec(ctx, args...)
	if err != nil || status != 0 {
		t.Fatalf("%s: %s: status %d, error %v:\n%s", ns.Name, strings.Join(args, " "), status, err, out)
	}
	return out
}

func TestNetworkConnectsWhatItShould(t *testing.T) {
	n := testNetwork(t)
	a, err := n.Nodes[0].NewSandbox("a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Nodes[1].NewSandbox("b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		from *Namespace
		to   Addresses
	}{
		{"pod to pod of another node", a.Namespace, b.Addresses},
		{"pod to its node", a.Namespace, n.Nodes[0].Addresses},
		{"pod to another node", a.Namespace, n.Nodes[1].Addresses},
		{"node to a pod elsewhere", n.Nodes[0].Namespace, b.Addresses},
		{"underlay to a pod", n.Underlay, b.Addresses},
		{"outside client to a node", n.Outside, n.Nodes[1].Addresses},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, c.from, "busybox", "ping", "-c1", "-W5", c.to.V4.String())
			run(t, c.from, "busybox", "ping", "-c1", "-W5", c.to.V6.String())
		})
	}
	t.Run("outside client not to a pod", func(t *testing.T) {
		if out, status, err := n.Outside.Exec(t.Context(), "busybox", "ping", "-c1", "-W1", b.V4.String()); err != nil || status == 0 {
			t.Fatalf("ping: status %d, error %v:\n%s", status, err, out)
		}
	})
	t.Run("a removed pod is gone at once", func(t *testing.T) {
		if err := b.Remove(); err != nil {
			t.Fatal(err)
		}
		out, status, err := a.Exec(t.Context(), "busybox", "ping", "-c1", "-W2", b.V4.String())
		if err != nil || status == 0 {
			t.Fatalf("ping after removal: status %d, error %v:\n%s", status, err, out)
		}
	})
}

func TestNamespaceHasItsOwnNameAndMounts(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ns, err := NewNamespace("alpha", Mount{From: path, To: "/etc/resolv.conf"})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if got := run(t, ns, "cat", "/etc/resolv.conf"); got != "nameserver 192.0.2.1\n" {
		t.Errorf("resolv.conf inside: %q", got)
	}
	if got := run(t, ns, "uname", "-n"); got != "alpha\n" {
		t.Errorf("host name inside: %q", got)
	}
	if outside, err := os.ReadFile("/etc/resolv.conf"); err == nil && bytes.Contains(outside, []byte("192.0.2.1")) {
		t.Error("the mount is seen outside")
	}
}

func TestRelayPassesBothDirectionsOn(t *testing.T) {
	n := testNetwork(t)
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		conn, err := echo.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}()
	listener, err := n.Underlay.Listen("tcp", RelayAddress.String()+":6443")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Relay{Listener: listener, Upstream: echo.Addr().String()}.Run(ctx) }()
	conn, err := n.Nodes[0].Dial(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if string(got) != "hello" || err != nil {
		t.Errorf("through the relay: %q, %v", got, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

const webDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web
        readinessProbe: {httpGet: {port: 80, path: /}}
        lifecycle: {preStop: {sleep: {seconds: 1}}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default}
spec:
  containers: [{name: client, image: busybox, args: [sleep, infinity]}]
`

// startKubelet runs a kubelet over manifests until the end of the test.
func startKubelet(t *testing.T, n *Network) (*Kubelet, *Manifests) {
	t.Helper()
	dir := t.TempDir()
	manifests, err := NewManifests(filepath.Join(dir, "manifests"), filepath.Join(dir, "scratch"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k := &Kubelet{
		Network: n, Pods: manifests,
		Images: map[string]Image{"web": {Entrypoint: []string{self, "web"}}, "busybox": {Entrypoint: []string{"busybox"}}},
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
		Output: func(string) io.Writer { return t.Output() },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return k, manifests
}

// eventually polls until the condition gives no error.
func eventually(t *testing.T, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func readyWeb(m *Manifests) []*corev1.Pod {
	pods, _ := m.List(context.Background())
	var ready []*corev1.Pod
	for _, p := range pods {
		if p.Labels["app"] == "web" && IsReady(p) {
			ready = append(ready, p)
		}
	}
	return ready
}

func TestKubeletRunsPodsAndReplacesThem(t *testing.T) {
	k, m := startKubelet(t, testNetwork(t))
	objects, err := ParseObjects([]byte(webDeployment))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	readyAre := func(n int) func() error {
		return func() error {
			if got := len(readyWeb(m)); got != n {
				return fmt.Errorf("%d web pods ready, want %d", got, n)
			}
			return nil
		}
	}
	eventually(t, readyAre(3))
	var client *Sandbox
	eventually(t, func() (err error) { client, err = k.Sandbox("default", "client"); return err })
	first := readyWeb(m)
	for _, pod := range first {
		if got := run(t, client.Namespace, "busybox", "wget", "-qO-", "http://"+pod.Status.PodIP); got != pod.Name+"\n" {
			t.Errorf("pod %s at %s answers %q", pod.Name, pod.Status.PodIP, got)
		}
	}

	victim := first[0]
	if err := m.DeletePod(t.Context(), victim.Namespace, victim.Name); err != nil {
		t.Fatal(err)
	}
	if got := run(t, client.Namespace, "busybox", "wget", "-qO-", "http://"+victim.Status.PodIP); got != victim.Name+"\n" {
		t.Errorf("a terminating pod answers %q", got)
	}
	eventually(t, func() error {
		if _, err := k.Sandbox(victim.Namespace, victim.Name); err == nil {
			return fmt.Errorf("pod %s still runs", victim.Name)
		}
		return readyAre(3)()
	})
	for _, pod := range readyWeb(m) {
		if pod.Status.PodIP == victim.Status.PodIP {
			t.Errorf("pod %s has the address of the deleted one", pod.Name)
		}
	}
	if err := m.Scale(t.Context(), "default", "web", 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, readyAre(1))
}
