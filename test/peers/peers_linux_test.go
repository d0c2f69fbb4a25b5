package peers

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/test/vm"
)

// TestSubjectsServe has every subject serve one Service, as a process that follows a real API
// server. It prepares on the host and goes on in the kernel machine.
func TestSubjectsServe(t *testing.T) {
	if os.Getenv(UpstreamVariable) != "" {
		serveAll(t)
		return
	}
	if testing.Short() {
		t.Skip("the kernel machine and kube-proxy take minutes the first time; run without -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	h, err := Prepare(ctx, t.Output(), "./test/peers_test")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Stop()
	status, err := vm.Run(ctx, h.Spec(vm.Spec{
		Argv:   []string{Dir + "/peers_test", "-test.run=^TestSubjectsServe$", "-test.v"},
		Env:    []string{"CI=" + os.Getenv("CI")},
		Stdout: t.Output(), Stderr: t.Output(),
	}))
	if err != nil || status != 0 {
		t.Fatalf("status %d in the machine, error %v", status, err)
	}
}

const nodeName = "node-1"

var (
	nodeAddress    = netip.MustParseAddr("172.30.0.11")
	podAddress     = netip.MustParseAddr("172.30.0.20")
	serviceAddress = netip.MustParseAddrPort("10.96.0.100:80")
)

func serveAll(t *testing.T) {
	client, err := Client()
	if err != nil {
		t.Fatal(err)
	}
	createObjects(t, client)
	for _, s := range Subjects {
		t.Run(string(s), func(t *testing.T) { serve(t, s) })
	}
}

// serve has a node reach a pod by a Service, at the time when the proxy says that it is at rest.
func serve(t *testing.T, s Subject) {
	node, pod := netns.New(t), netns.New(t)
	node.Veth("eth0", pod, "eth0")
	node.Address("eth0", netip.PrefixFrom(nodeAddress, 24))
	pod.Address("eth0", netip.PrefixFrom(podAddress, 24))
	node.Route(netip.MustParsePrefix("0.0.0.0/0"), "eth0", podAddress)
	var listener net.Listener
	pod.Do(func() { listener = listen(t) })
	defer listener.Close()
	go answer(listener)
	inside := func(f func() error) (err error) {
		node.Do(func() { err = f() })
		return err
	}
	began := time.Now()
	proxy, err := Start(s, inside, t.TempDir(), nodeName, Settings{ClusterCIDR: "10.244.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("it printed:\n%s", proxy.Output())
		}
	}()
	defer proxy.Stop()
	for !proxy.AtRest(t.Context()) {
		select {
		case <-proxy.Done():
			t.Fatal("it ended")
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(began) > time.Minute {
			t.Fatal("not at rest after a minute")
		}
	}
	t.Logf("at rest after %s", time.Since(began).Round(time.Millisecond))
	err = inside(func() error {
		conn, err := net.DialTimeout("tcp", serviceAddress.String(), 5*time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		t.Errorf("the Service: %v", err)
	}
}

func listen(t *testing.T) net.Listener {
	listener, err := net.Listen("tcp", netip.AddrPortFrom(podAddress, 8080).String())
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func answer(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_ = conn.Close() // being there is the answer
	}
}

func createObjects(t *testing.T, client *kubernetes.Clientset) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	node, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}, metav1.CreateOptions{})
	must(err)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress.String()}}
	_, err = client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
	must(err)
	_, err = client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			ClusterIP: serviceAddress.Addr().String(),
			Ports:     []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: int32(serviceAddress.Port())}},
		},
	}, metav1.CreateOptions{})
	must(err)
	name, protocol, port := "http", corev1.ProtocolTCP, int32(8080)
	_, err = client.DiscoveryV1().EndpointSlices("default").Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{podAddress.String()}}},
	}, metav1.CreateOptions{})
	must(err)
}
