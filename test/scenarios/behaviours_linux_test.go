package scenarios

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/test/scenarios/findings"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

// behaviour is what a proxy does in the course of time, or with addresses that the tables of
// flows do not have.
type behaviour struct {
	name, want string
	// try gives what came of it, in the words of want if that is right.
	try func(k *cluster) string
}

var behaviours = []behaviour{
	{"a port of a ClusterIP that no Service lists does not reach a daemon of the node", "nobody answers", unlistedPort},
	{"an unallocated address of the Service CIDR is not routed out", "stays here", unallocatedAddress},
	{"a NodePort answers on 127.0.0.1 over TCP", "local", func(k *cluster) string { return k.onLoopback(way{false, model.TCP}) }},
	{"a NodePort answers on 127.0.0.1 over UDP", "local", func(k *cluster) string { return k.onLoopback(way{false, model.UDP}) }},
	{"a NodePort answers on ::1 over TCP", "local", func(k *cluster) string { return k.onLoopback(way{true, model.TCP}) }},
	{"a client with an affinity of one second is let go", "let go", shortAffinity},
	{"a TCP connection outlives the removal of its endpoint from the slice", "goes on", outlivesRemoval},
	{"... and the return of the endpoint", "goes on", outlivesReturn},
	{"a Service that becomes Local shows its clients' source though connections of before go on", localPod.name + " sees " + outsider.v4.String() + "; goes on", becomesLocal},
	{"a UDP flow moves when its endpoint goes", "moves", flowMoves},
	{"a UDP socket that sends before there is an endpoint is served afterwards", "served", earlySocket},
	{"an externalIP that is another node's address leaves that node's other ports alone", "other", addressOfANode},
	{"nobody answers ARP for a load balancer's address", "no ARP", noARP},
	{"virtual servers of other software are left alone", "left alone", foreignServers},
}

// behave tries what is chosen.
func (k *cluster) behave(t *testing.T, r *recorder, subject string, c configuration) {
	for _, b := range behaviours {
		if chosen("MOORING_BEHAVIOURS", b.name) {
			r.all = append(r.all, findings.Finding{Subject: subject, Configuration: c.name, Behaviour: b.name, Want: b.want, Got: b.try(k)})
			t.Logf("%s: %s: %s", time.Now().Format(time.TimeOnly), b.name, r.all[len(r.all)-1].Got)
		}
	}
}

var (
	webAddress  = netip.MustParseAddr("10.96.0.10")
	webAddress6 = netip.MustParseAddr("fd00:10:96::10")
	tcp         = way{false, model.TCP}
)

// web has one Service with TCP and UDP, as changed, and what serves it. What is so already is left.
func (k *cluster) web(change func(*corev1.Service), endpoints ...host) {
	plain := change == nil && len(endpoints) == 1 && endpoints[0] == localPod
	if plain && k.plain {
		return
	}
	k.plain = plain
	k.clear()
	both := corev1.IPFamilyPolicyRequireDualStack
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, IPFamilyPolicy: &both, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		ClusterIP: webAddress.String(), ClusterIPs: []string{webAddress.String(), webAddress6.String()},
		Ports: []corev1.ServicePort{
			{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080},
			{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 30080},
			{Name: "echo", Protocol: corev1.ProtocolTCP, Port: 81, NodePort: 30081},
		},
	}}
	if change != nil {
		change(s)
	}
	k.must(k.create(k.t.Context(), s))
	for _, ipv6 := range []bool{false, true} {
		k.must(k.create(k.t.Context(), webSlice(ipv6, endpoints)))
	}
	k.follow(k.t)
}

// serve changes what serves the Service.
func (k *cluster) serve(endpoints ...host) {
	k.plain = false
	for _, ipv6 := range []bool{false, true} {
		_, err := k.client.DiscoveryV1().EndpointSlices("default").Update(k.t.Context(), webSlice(ipv6, endpoints), metav1.UpdateOptions{})
		k.must(err)
	}
	k.follow(k.t)
}

func webSlice(ipv6 bool, endpoints []host) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-ipv4", Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: new("tcp"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(endpointPort))},
			{Name: new("udp"), Protocol: new(corev1.ProtocolUDP), Port: new(int32(endpointPort))},
			{Name: new("echo"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(echoPort))},
		},
	}
	if ipv6 {
		slice.Name, slice.AddressType = "web-ipv6", discoveryv1.AddressTypeIPv6
	}
	for _, h := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{h.addr(ipv6).String()}, NodeName: new(h.node)})
	}
	return slice
}

// who says who answers once, or what else comes.
func (k *cluster) who(from oracle.Source, w way, at netip.Addr, port uint16) string {
	words, _ := k.words(question{Flow: oracle.Flow{From: from}, way: w, port: port, at: at}, time.Second)
	name, _, _ := strings.Cut(words, " sees ")
	return name
}

func unlistedPort(k *cluster) string {
	k.web(nil, localPod)
	k.listenOnce(theNode)
	if got := k.who(oracle.Pod, tcp, webAddress, endpointPort); got != "refused" && got != "no answer" {
		return got
	}
	return "nobody answers"
}

func unallocatedAddress(k *cluster) string {
	k.web(nil, localPod)
	before := k.leftTheNode()
	k.who(oracle.Pod, tcp, netip.MustParseAddr("10.96.77.77"), 80)
	if k.leftTheNode() > before {
		return "leaves by the default route"
	}
	return "stays here"
}

// leftTheNode counts what the node has sent by its default route.
func (k *cluster) leftTheNode() (packets uint64) {
	k.lan.Do(func() {
		link, err := netlink.LinkByName("nowhere")
		k.must(err)
		packets = link.Attrs().Statistics.RxPackets
	})
	return packets
}

func (k *cluster) onLoopback(w way) string {
	k.web(nil, localPod)
	at := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if w.ipv6 {
		at = netip.IPv6Loopback()
	}
	return k.who(oracle.Host, w, at, 30080)
}

func shortAffinity(k *cluster) string {
	k.web(func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(1))}}
	}, localPod, remotePod)
	first := k.who(oracle.Pod, tcp, webAddress, 80)
	for range 3 {
		if again := k.who(oracle.Pod, tcp, webAddress, 80); again != first {
			return "not kept: " + first + ", then " + again
		}
	}
	for range 10 { // one that is chosen at random is the same ten times in a thousand runs
		time.Sleep(2500 * time.Millisecond)
		if k.who(oracle.Pod, tcp, webAddress, 80) != first {
			return "let go"
		}
	}
	return "kept for more than 2 s"
}

// dial opens a connection that lasts until the test ends.
func (k *cluster) dial(from host, network string, to netip.Addr, port uint16) (conn net.Conn) {
	k.spaces[from].Do(func() {
		var err error
		conn, err = net.DialTimeout(network, netip.AddrPortFrom(to, port).String(), time.Second)
		k.must(err)
	})
	k.t.Cleanup(func() { conn.Close() })
	return conn
}

// exchange sends a line until something comes back, a few times.
func exchange(conn net.Conn, times int) (answer string, err error) {
	buffer := make([]byte, 128)
	for range times {
		if err = conn.SetDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			return "", err
		}
		if _, err = conn.Write([]byte("who\n")); err != nil {
			continue
		}
		var n int
		if n, err = conn.Read(buffer); err == nil {
			answer, _, _ = strings.Cut(string(buffer[:n]), " ")
			return answer, nil
		}
	}
	return "", err
}

func outlivesRemoval(k *cluster) string {
	_, got := k.removal()
	return got
}

// removal has a connection to an endpoint that is then taken out of the slice.
func (k *cluster) removal() (net.Conn, string) {
	k.echo(localPod)
	k.echo(remotePod)
	k.web(nil, localPod)
	conn := k.dial(podHost, "tcp", webAddress, 81)
	if _, err := exchange(conn, 1); err != nil {
		return nil, "not begun: " + err.Error()
	}
	k.serve(remotePod)
	return conn, goesOn(conn)
}

func goesOn(conn net.Conn) string {
	if _, err := exchange(conn, 1); err != nil {
		return "cut"
	}
	return "goes on"
}

func outlivesReturn(k *cluster) string {
	conn, got := k.removal()
	if got != "goes on" {
		return got
	}
	k.serve(localPod, remotePod)
	return goesOn(conn)
}

// becomesLocal changes the policy under connections to both endpoints, of which one is elsewhere.
func becomesLocal(k *cluster) string {
	k.web(nil, localPod, remotePod)
	k.plain = false
	held := []net.Conn{k.dial(outsider, "tcp", theNode.v4, 30080), k.dial(outsider, "tcp", theNode.v4, 30080)}
	service, err := k.client.CoreV1().Services("default").Get(k.t.Context(), "web", metav1.GetOptions{})
	k.must(err)
	service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	_, err = k.client.CoreV1().Services("default").Update(k.t.Context(), service, metav1.UpdateOptions{})
	k.must(err)
	k.follow(k.t)
	got, _ := k.words(question{Flow: oracle.Flow{From: oracle.Outside}, way: tcp, port: 30080, at: theNode.v4}, time.Second)
	for _, conn := range held {
		if goesOn(conn) == "cut" {
			return got + "; cut"
		}
	}
	return got + "; goes on"
}

func flowMoves(k *cluster) string {
	k.web(nil, localPod, remotePod)
	conn := k.dial(podHost, "udp", webAddress, 80)
	first, err := exchange(conn, 1)
	if err != nil {
		return "not begun: " + err.Error()
	}
	if first == localPod.name {
		k.serve(remotePod)
	} else {
		k.serve(localPod)
	}
	switch next, err := exchange(conn, 3); {
	case err != nil:
		return "no answer"
	case next == first:
		return "stays"
	}
	return "moves"
}

func earlySocket(k *cluster) string {
	k.web(nil)
	conn := k.dial(podHost, "udp", webAddress, 80)
	for range 3 {
		_, _ = exchange(conn, 1) // nobody is there yet
	}
	k.serve(localPod)
	if _, err := exchange(conn, 3); err != nil {
		return "no answer"
	}
	return "served"
}

func addressOfANode(k *cluster) string {
	k.web(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{otherNode.v4.String()} }, localPod)
	k.listenOnce(otherNode)
	return k.who(oracle.Pod, tcp, otherNode.v4, endpointPort)
}

func noARP(k *cluster) string {
	address := netip.MustParseAddr("203.0.113.77")
	k.web(func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)}}
	}, localPod)
	k.spaces[outsider].Route(single(address), "eth0", netip.Addr{})
	if got := k.who(oracle.Outside, tcp, address, 80); got == localPod.name {
		return "the node answers ARP"
	}
	return "no ARP"
}

func foreignServers(k *cluster) string {
	const theirs = "198.51.100.1:80"
	k.onTheNode("ipvsadm", "-A", "-t", theirs, "-s", "wlc")
	k.web(nil, localPod)
	if !strings.Contains(k.onTheNode("ipvsadm", "-L", "-n"), theirs) {
		return "deleted"
	}
	k.onTheNode("ipvsadm", "-D", "-t", theirs)
	return "left alone"
}

// onTheNode runs a program and gives what it printed.
func (k *cluster) onTheNode(name string, args ...string) string {
	var out []byte
	var err error
	k.spaces[theNode].Do(func() { out, err = exec.CommandContext(k.t.Context(), name, args...).CombinedOutput() })
	if err != nil {
		k.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// echoPort is where pods send back what they are sent.
const echoPort = 8081

// echo has a pod do so until the test ends.
func (k *cluster) echo(h host) {
	if slices.Contains(k.echoing, h.name) {
		return
	}
	k.echoing = append(k.echoing, h.name)
	k.spaces[h].Do(func() {
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", echoPort))
		k.must(err)
		k.t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					_, _ = io.Copy(conn, conn) // until the other side ends
				}()
			}
		}()
	})
}

// listenOnce is listen for hosts that need not do so.
func (k *cluster) listenOnce(h host) {
	if !slices.Contains(k.listening, h.name) {
		k.listening = append(k.listening, h.name)
		k.listen(h)
	}
}
