package watch

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/model"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// texts is the problems as lines.
func texts(problems []problem) (out []string) {
	for _, p := range problems {
		out = append(out, p.String())
	}
	return out
}

var values = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

func TestConvertService(t *testing.T) {
	vip, proxy, local := corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy, corev1.ServiceInternalTrafficPolicyLocal
	balanced := func(ranges ...string) corev1.Service {
		return corev1.Service{
			Spec:   corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "None", LoadBalancerSourceRanges: ranges},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}},
		}
	}
	tests := map[string]struct {
		in       corev1.Service
		want     model.Service
		problems []string
	}{
		"everything": {
			in: corev1.Service{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "shop", Name: "web", Labels: map[string]string{"service.kubernetes.io/service-proxy-name": "other"},
					Annotations: map[string]string{"mooring.dev/scheduler": "lc", "mooring.device/x": "y", "a": "b"},
				},
				Spec: corev1.ServiceSpec{
					Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1", "fd00::1"},
					ExternalIPs: []string{"192.0.2.9"}, LoadBalancerSourceRanges: []string{" 10.0.0.1/8 ", "::/0"},
					ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, InternalTrafficPolicy: &local,
					HealthCheckNodePort: 31000, SessionAffinity: corev1.ServiceAffinityClientIP,
					Ports: []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, NodePort: 30053}, {Port: 80}},
				},
				Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
					{IP: "192.0.2.1"}, {IP: "192.0.2.2", IPMode: &vip}, {IP: "192.0.2.3", IPMode: &proxy}, {Hostname: "lb.example.org"},
				}}},
			},
			want: model.Service{
				Key: model.ServiceKey{Namespace: "shop", Name: "web"}, Type: model.LoadBalancer, ProxyName: "other",
				ClusterIPs: addrs("10.96.0.1", "fd00::1"), ExternalIPs: addrs("192.0.2.9"), LoadBalancerIPs: addrs("192.0.2.1", "192.0.2.2"),
				LoadBalancerSourceRanges: prefixes("10.0.0.0/8", "::/0"), ExternalTrafficPolicy: model.Local, InternalTrafficPolicy: model.Local,
				HealthCheckNodePort: 31000, AffinityTimeout: 3 * time.Hour, Annotations: map[string]string{"mooring.dev/scheduler": "lc"},
				Ports: []model.ServicePort{{Name: "dns", Protocol: model.UDP, Port: 53, NodePort: 30053}, {Protocol: model.TCP, Port: 80}},
			},
		},
		"affinity with a timeout": {
			in: corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None", SessionAffinity: corev1.ServiceAffinityClientIP, SessionAffinityConfig: &corev1.SessionAffinityConfig{
				ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(7))},
			}}},
			want: model.Service{Headless: true, AffinityTimeout: 7 * time.Second},
		},
		"external name": {
			in:   corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org.", Ports: []corev1.ServicePort{{Port: 1}}}},
			want: model.Service{Type: model.ExternalName, ExternalName: "example.org", Ports: []model.ServicePort{{Protocol: model.TCP, Port: 1}}},
		},
		"written before clusterIPs, with leading zeros": {
			in:   corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.096.0.010"}},
			want: model.Service{ClusterIPs: addrs("10.96.0.10")},
		},
		"IPv4-mapped address": {
			in:   corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "::ffff:10.96.0.1", ClusterIPs: []string{"::ffff:10.96.0.1"}}},
			want: model.Service{ClusterIPs: addrs("10.96.0.1")},
		},
		"two addresses of one family": {
			in:       corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1", "10.96.0.2"}}},
			want:     model.Service{ClusterIPs: addrs("10.96.0.1")},
			problems: []string{"spec.clusterIPs[1]: 10.96.0.2 is a second address of the same family"},
		},
		"not yet allocated": {in: corev1.Service{}, want: model.Service{}},
		"ports that cannot be": {
			in: corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None", HealthCheckNodePort: -1, Ports: []corev1.ServicePort{
				{Port: 0}, {Port: 65536}, {Port: 80, Protocol: "ICMP"}, {Port: 80, NodePort: 70000},
			}}},
			want: model.Service{Headless: true, Ports: []model.ServicePort{{Protocol: model.TCP, Port: 80}}},
			problems: []string{
				"spec.healthCheckNodePort: -1 is not a port (1 to 65535)",
				"spec.ports[0].port: 0 is not a port (1 to 65535)",
				"spec.ports[1].port: 65536 is not a port (1 to 65535)",
				`spec.ports[2].protocol: "ICMP" is not a protocol (TCP, UDP or SCTP)`,
				"spec.ports[3].nodePort: 70000 is not a port (1 to 65535)",
			},
		},
		"one bad source range narrows": {
			in:       balanced("10.0.0.0/8", "10.0.0.0/99"),
			want:     model.Service{Type: model.LoadBalancer, Headless: true, LoadBalancerIPs: addrs("192.0.2.1"), LoadBalancerSourceRanges: prefixes("10.0.0.0/8")},
			problems: []string{`spec.loadBalancerSourceRanges[1]: "10.0.0.0/99" is not a CIDR such as 10.0.0.0/8`},
		},
		"bad source ranges alone let nobody in": {
			in:       balanced("everywhere"),
			want:     model.Service{Type: model.LoadBalancer, Headless: true},
			problems: []string{`spec.loadBalancerSourceRanges[0]: "everywhere" is not a CIDR such as 10.0.0.0/8`},
		},
		"unknown type": {
			in:       corev1.Service{Spec: corev1.ServiceSpec{Type: "Mesh", ClusterIP: "None"}},
			want:     model.Service{Headless: true},
			problems: []string{`spec.type: "Mesh" is not a type of Service`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := converter{names: &intern.Names{}}
			got := c.service(&test.in)
			if diff := cmp.Diff(&test.want, got, values); diff != "" {
				t.Errorf("service (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.problems, texts(c.take())); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConvertEndpointConditions(t *testing.T) {
	yes, no := new(true), new(false)
	tests := map[string]struct {
		in                          discoveryv1.EndpointConditions
		ready, serving, terminating bool
	}{
		"nothing said":               {discoveryv1.EndpointConditions{}, true, true, false},
		"ready":                      {discoveryv1.EndpointConditions{Ready: yes}, true, true, false},
		"not ready":                  {discoveryv1.EndpointConditions{Ready: no}, false, false, false},
		"terminating and serving":    {discoveryv1.EndpointConditions{Ready: no, Serving: yes, Terminating: yes}, false, true, true},
		"terminating, serving unset": {discoveryv1.EndpointConditions{Ready: no, Terminating: yes}, false, false, true},
		"published though not ready": {discoveryv1.EndpointConditions{Ready: yes, Serving: no}, true, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := converter{names: &intern.Names{}}
			got, valid := c.endpoint(&discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, Conditions: test.in}, "", 0)
			if !valid || got.Ready != test.ready || got.Serving != test.serving || got.Terminating != test.terminating {
				t.Errorf("got %+v, %v", got, valid)
			}
		})
	}
}

func TestConvertSlice(t *testing.T) {
	owned := metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}
	timed := *owned.DeepCopy()
	timed.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-02T03:04:05.6Z"}
	untimed := *owned.DeepCopy()
	untimed.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "yesterday"}
	key := model.ServiceKey{Namespace: "shop", Name: "web"}
	udp, bad := corev1.ProtocolUDP, corev1.Protocol("ICMP")
	tests := map[string]struct {
		in       discoveryv1.EndpointSlice
		want     *model.EndpointSlice
		problems []string
	}{
		"of no Service": {in: discoveryv1.EndpointSlice{AddressType: "IPv4", Endpoints: []discoveryv1.Endpoint{{}}}},
		"everything": {
			in: discoveryv1.EndpointSlice{
				ObjectMeta: timed, AddressType: discoveryv1.AddressTypeIPv6,
				Ports: []discoveryv1.EndpointPort{
					{Name: new("dns"), Protocol: &udp, Port: new(int32(53))}, {Name: new("any")}, {Port: new(int32(0))}, {Protocol: &bad, Port: new(int32(1))},
				},
				Endpoints: []discoveryv1.Endpoint{{
					Addresses: []string{"fd00::1", "nonsense"}, Hostname: new("h"), NodeName: new("n"), Zone: new("z"),
					TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"},
					Hints:     &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z"}, {Name: "y"}}, ForNodes: []discoveryv1.ForNode{{Name: "n"}}},
				}, {
					Addresses: []string{"fd00::2"}, TargetRef: &corev1.ObjectReference{Kind: "Node", Name: "n"},
				}},
			},
			want: &model.EndpointSlice{
				Name: "web-1", Service: key, TriggerTime: time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC),
				Ports: []model.EndpointPort{{Name: "dns", Protocol: model.UDP, Port: 53}},
				Endpoints: []model.Endpoint{
					{Addr: netip.MustParseAddr("fd00::1"), Ready: true, Serving: true, About: &model.About{Hostname: "h", TargetPod: "p", Node: "n", Zone: "z", ForZones: []string{"z", "y"}, ForNodes: []string{"n"}}},
					{Addr: netip.MustParseAddr("fd00::2"), Ready: true, Serving: true},
				},
			},
			problems: []string{
				"ports[2].port: 0 is not a port (1 to 65535)",
				`ports[3].protocol: "ICMP" is not a protocol (TCP, UDP or SCTP)`,
			},
		},
		"endpoints that cannot be": {
			in: discoveryv1.EndpointSlice{ObjectMeta: untimed, AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{
				{}, {Addresses: []string{"web.example.org"}}, {Addresses: []string{"fd00::1"}}, {Addresses: []string{"10.0.0.1"}},
			}},
			want: &model.EndpointSlice{Name: "web-1", Service: key, Endpoints: []model.Endpoint{{Addr: netip.MustParseAddr("10.0.0.1"), Ready: true, Serving: true}}},
			problems: []string{
				`metadata.annotations[endpoints.kubernetes.io/last-change-trigger-time]: "yesterday" is not a time`,
				"endpoints[0].addresses: has no address",
				`endpoints[1].addresses[0]: "web.example.org" is not an IP address`,
				"endpoints[2].addresses[0]: fd00::1 is not of addressType IPv4",
			},
		},
		"names instead of addresses": {
			in:   discoveryv1.EndpointSlice{ObjectMeta: owned, AddressType: discoveryv1.AddressTypeFQDN, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"web.example.org"}}}},
			want: &model.EndpointSlice{Name: "web-1", Service: key},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := converter{names: &intern.Names{}}
			got := c.slice(&test.in)
			if diff := cmp.Diff(test.want, got, values); diff != "" {
				t.Errorf("slice (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.problems, texts(c.take())); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestConvertSliceLiterally keeps what is left out otherwise.
func TestConvertSliceLiterally(t *testing.T) {
	c := converter{names: &intern.Names{}, literal: true}
	name, tcp := "http", corev1.ProtocolTCP
	got := c.slice(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &tcp}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.5", "10.244.1.6", "10.244.1.7"}}},
	})
	var list []netip.Addr
	for i := range got.Endpoints {
		list = append(list, got.Endpoints[i].Addr)
	}
	if diff := cmp.Diff(addrs("10.244.1.5", "10.244.1.6", "10.244.1.7"), list, values); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]model.EndpointPort{{Name: "http", Protocol: model.TCP}}, got.Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

func TestConvertNodeAndPod(t *testing.T) {
	c := converter{names: &intern.Names{}}
	node := c.node(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z1"}, DeletionTimestamp: &metav1.Time{Time: time.Unix(1, 0)},
		},
		Spec: corev1.NodeSpec{
			Taints:  []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Value: "1763850000", Effect: corev1.TaintEffectNoSchedule}},
			PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24", "fd00:10:244:1::/64", "x"},
		},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "n1"},
			{Type: corev1.NodeInternalIP, Address: "172.30.0.11"},
			{Type: corev1.NodeExternalIP, Address: "fd00:172:30::11"},
			{Type: corev1.NodeInternalIP, Address: "n1"},
		}},
	})
	want := &model.Node{
		Name: "n1", Zone: "z1", Taints: []string{"ToBeDeletedByClusterAutoscaler"}, Deleting: true,
		Addresses: addrs("172.30.0.11", "fd00:172:30::11"), PodCIDRs: prefixes("10.244.1.0/24", "fd00:10:244:1::/64"),
	}
	if diff := cmp.Diff(want, node, values); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
	pod := c.pod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", Labels: map[string]string{"a": "b"}},
		Spec:       corev1.PodSpec{HostNetwork: true},
		Status:     corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
	})
	wantPod := &model.Pod{Namespace: "shop", Name: "p", HostNetwork: true, Addresses: addrs("10.0.0.1", "fd00::1"), Labels: map[string]string{"a": "b"}}
	if diff := cmp.Diff(wantPod, pod, values); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
	if pod := c.pod(&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}); pod != nil {
		t.Errorf("a Pod that has ended: %+v", pod)
	}
	if diff := cmp.Diff([]string{`status.addresses[3].address: "n1" is not an IP address`, `spec.podCIDRs[2]: "x" is not a CIDR such as 10.0.0.0/8`}, texts(c.take())); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
