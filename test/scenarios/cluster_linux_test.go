package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/test/lab"
	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

// cluster is a real API server with the scenario's objects, and a proxy that follows it on theNode.
type cluster struct {
	*testbed
	client *kubernetes.Clientset
	proxy  *peers.Proxy
	// marks counts the markers' ports, over all subjects.
	marks *int
	// echoing and listening are the hosts that do so.
	echoing, listening []string
	// plain is whether the Service of the behaviours is unchanged.
	plain bool
}

// syncLimit is how long a proxy may take until it has followed.
const syncLimit = 3 * time.Minute

// start makes new hosts and starts a proxy on theNode.
func start(t *testing.T, client *kubernetes.Clientset, subject peers.Subject, c configuration, marks *int) *cluster {
	t.Helper()
	k := &cluster{testbed: newHosts(t), client: client, marks: marks}
	k.writeNodes()
	settings := peers.Settings{MasqueradeAll: c.masqueradeAll}
	if c.knowsPods {
		settings.ClusterCIDR = podCIDRs[0].String() + "," + podCIDRs[1].String()
	}
	inside := func(f func() error) (err error) {
		k.spaces[theNode].Do(func() { err = f() })
		return err
	}
	var err error
	k.proxy, err = peers.Start(subject, inside, t.TempDir(), theNode.node, settings)
	k.must(err)
	t.Cleanup(k.proxy.Stop)
	k.follow(t)
	return k
}

// writeNodes has both nodes in the API; kube-proxy takes the node's addresses from there.
func (k *cluster) writeNodes() {
	for i, h := range []host{theNode, otherNode} {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: h.node, Labels: map[string]string{corev1.LabelHostname: h.node, corev1.LabelTopologyZone: []string{zone, "there"}[i]}},
			Spec:       corev1.NodeSpec{PodCIDR: fmt.Sprintf("10.244.%d.0/24", i+1), PodCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", i+1), fmt.Sprintf("fd00:10:244:%d::/64", i+1)}},
		}
		created, err := k.client.CoreV1().Nodes().Create(k.t.Context(), node, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			continue
		}
		k.must(err)
		created.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: h.v4.String()}, {Type: corev1.NodeInternalIP, Address: h.v6.String()},
		}
		_, err = k.client.CoreV1().Nodes().UpdateStatus(k.t.Context(), created, metav1.UpdateOptions{})
		k.must(err)
	}
}

// become makes the scenario's objects the only ones, and waits for the proxy.
func (k *cluster) become(t *testing.T, s scenario) {
	t.Helper()
	k.clear()
	objects, err := lab.ParseObjects([]byte(s.objects))
	k.must(err)
	for _, o := range objects {
		k.must(k.create(t.Context(), o))
	}
	k.follow(t)
}

// clear removes all objects but the API server's own and the marker.
func (k *cluster) clear() {
	ctx := k.t.Context()
	services, err := k.client.CoreV1().Services("default").List(ctx, metav1.ListOptions{})
	k.must(err)
	for _, service := range services.Items {
		if service.Name != "kubernetes" && service.Name != markerName {
			k.must(k.client.CoreV1().Services("default").Delete(ctx, service.Name, metav1.DeleteOptions{}))
		}
	}
	ours := metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + " notin (kubernetes, " + markerName + ")"}
	k.must(k.client.DiscoveryV1().EndpointSlices("default").DeleteCollection(ctx, metav1.DeleteOptions{}, ours))
}

func (k *cluster) create(ctx context.Context, o lab.Object) error {
	switch o := o.(type) {
	case *corev1.Service:
		created, err := k.client.CoreV1().Services(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
		if err != nil || len(o.Status.LoadBalancer.Ingress) == 0 {
			return err
		}
		created.Status = o.Status
		_, err = k.client.CoreV1().Services(o.Namespace).UpdateStatus(ctx, created, metav1.UpdateOptions{})
		return err
	case *discoveryv1.EndpointSlice:
		_, err := k.client.DiscoveryV1().EndpointSlices(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
		return err
	}
	return fmt.Errorf("%T: scenarios have Services and EndpointSlices only", o)
}

// follow waits until the proxy has put into the kernel what the API has now. A Service that is
// changed last answers in both families; since a sync may answer for it and still be at work,
// another one, written after that, has to answer too.
func (k *cluster) follow(t *testing.T) {
	t.Helper()
	k.followMark(t)
	k.followMark(t)
}

func (k *cluster) followMark(t *testing.T) {
	t.Helper()
	questions := k.mark()
	deadline := time.Now().Add(syncLimit)
	for answered := 0; answered < len(questions); {
		if _, _, err := k.ask(questions[answered], silence); err == nil {
			answered++
			continue
		}
		select {
		case <-k.proxy.Done():
			t.Fatalf("%s ended:\n%s", k.proxy.Subject, k.proxy.Output())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has not followed after %s: %d of %d markers answer; it printed:\n%s\nIPVS has\n%s", k.proxy.Subject, syncLimit, answered, len(questions),
				k.proxy.Output(), k.onTheNode("ipvsadm", "-L", "-n"))
		}
	}
}

// The marker is a Service whose port is another one each time.
const markerName, markerPort = "marker", 1000

var markerAddresses = []netip.Addr{netip.MustParseAddr("10.96.0.9"), netip.MustParseAddr("fd00:10:96::9")}

// mark gives the marker its next port, and what to ask at it.
func (k *cluster) mark() []question {
	ctx := k.t.Context()
	*k.marks++
	port := markerPort + *k.marks
	service, err := k.client.CoreV1().Services("default").Get(ctx, markerName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		for _, o := range newMarker(port) {
			k.must(k.create(ctx, o))
		}
	case err == nil:
		service.Spec.Ports[0].Port = int32(port)
		_, err = k.client.CoreV1().Services("default").Update(ctx, service, metav1.UpdateOptions{})
		k.must(err)
	default:
		k.must(err)
	}
	var questions []question
	for i, ipv6 := range []bool{false, true} {
		from := oracle.Flow{From: oracle.Pod, To: oracle.ClusterIP, Addr: podHost.addr(ipv6)}
		questions = append(questions, question{Flow: from, way: way{ipv6, model.TCP}, port: uint16(port), at: markerAddresses[i]})
	}
	return questions
}

func newMarker(port int) []lab.Object {
	both := corev1.IPFamilyPolicyRequireDualStack
	objects := []lab.Object{&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: markerName, Namespace: "default"}, Spec: corev1.ServiceSpec{
		IPFamilyPolicy: &both, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		ClusterIP: markerAddresses[0].String(), ClusterIPs: []string{markerAddresses[0].String(), markerAddresses[1].String()},
		Ports: []corev1.ServicePort{{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: int32(port)}},
	}}}
	for i, ipv6 := range []bool{false, true} {
		objects = append(objects, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", markerName, i), Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: markerName}},
			AddressType: []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}[i],
			Ports:       []discoveryv1.EndpointPort{{Name: new("tcp"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(endpointPort))}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{localPod.addr(ipv6).String()}, NodeName: &theNode.node}},
		})
	}
	return objects
}
