package watch

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	netutils "k8s.io/utils/net"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/model"
)

// annotationPrefix begins the annotations that are kept.
const annotationPrefix = "mooring.dev/"

// A problem is a part of an object that cannot be used and was left out.
type problem struct {
	// field is the path of the part, as in spec.ports[0].port.
	field string
	text  string
}

func (p problem) String() string { return p.field + ": " + p.text }

// A converter turns API objects into model values. What it cannot use it leaves out and
// remembers as problems; take fetches them.
type converter struct {
	names *intern.Names
	// literal keeps what Selection.Literal says.
	literal bool
	// noTargets leaves out what Selection.NoTargets says.
	noTargets bool
	problems  []problem
}

func (c *converter) skip(text string, path string, args ...any) {
	c.problems = append(c.problems, problem{field: fmt.Sprintf(path, args...), text: text})
}

// take gives the problems since the last take.
func (c *converter) take() []problem {
	problems := c.problems
	c.problems = nil
	return problems
}

// service converts a Service.
func (c *converter) service(in *corev1.Service) *model.Service {
	out := &model.Service{
		Key:                   model.ServiceKey{Namespace: c.names.Text(in.Namespace), Name: in.Name},
		Type:                  c.serviceType(in.Spec.Type),
		Headless:              in.Spec.ClusterIP == corev1.ClusterIPNone,
		ExternalTrafficPolicy: trafficPolicy(string(in.Spec.ExternalTrafficPolicy)),
		HealthCheckNodePort:   c.optionalPort(in.Spec.HealthCheckNodePort, "spec.healthCheckNodePort"),
		ProxyName:             c.names.Text(in.Labels["service.kubernetes.io/service-proxy-name"]),
		Selector:              labels.Set(in.Spec.Selector).String(),
		Annotations:           ownAnnotations(in.Annotations),
		AffinityTimeout:       affinityTimeout(&in.Spec),
		ExternalIPs:           c.addrs(in.Spec.ExternalIPs, "spec.externalIPs"),
		Ports:                 c.servicePorts(in.Spec.Ports),
	}
	if in.Spec.InternalTrafficPolicy != nil {
		out.InternalTrafficPolicy = trafficPolicy(string(*in.Spec.InternalTrafficPolicy))
	}
	if out.Type == model.ExternalName {
		out.Headless = false
		out.ExternalName = strings.TrimSuffix(in.Spec.ExternalName, ".")
		return out
	}
	if !out.Headless {
		out.ClusterIPs = c.clusterIPs(&in.Spec)
	}
	c.loadBalancer(in, out)
	return out
}

func (c *converter) serviceType(t corev1.ServiceType) model.ServiceType {
	switch t {
	case corev1.ServiceTypeNodePort:
		return model.NodePort
	case corev1.ServiceTypeLoadBalancer:
		return model.LoadBalancer
	case corev1.ServiceTypeExternalName:
		return model.ExternalName
	case corev1.ServiceTypeClusterIP, "":
	default:
		c.skip(fmt.Sprintf("%q is not a type of Service", t), "spec.type")
	}
	return model.ClusterIP
}

func trafficPolicy(s string) model.TrafficPolicy {
	if s == string(corev1.ServiceExternalTrafficPolicyLocal) {
		return model.Local
	}
	return model.Cluster
}

// affinityTimeout applies the API's default of three hours.
func affinityTimeout(spec *corev1.ServiceSpec) time.Duration {
	if spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if a := spec.SessionAffinityConfig; a != nil && a.ClientIP != nil && a.ClientIP.TimeoutSeconds != nil {
		seconds = *a.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

func ownAnnotations(all map[string]string) map[string]string {
	var own map[string]string
	for key, value := range all {
		if strings.HasPrefix(key, annotationPrefix) {
			if own == nil {
				own = make(map[string]string)
			}
			own[key] = value
		}
	}
	return own
}

// clusterIPs gives at most one address of each family, as the API promises.
func (c *converter) clusterIPs(spec *corev1.ServiceSpec) []netip.Addr {
	texts, field := spec.ClusterIPs, "spec.clusterIPs"
	if len(texts) == 0 && spec.ClusterIP != "" {
		addr, valid := c.addr(spec.ClusterIP, "spec.clusterIP")
		if !valid {
			return nil
		}
		return []netip.Addr{addr}
	}
	addrs := c.addrs(texts, field)
	if len(addrs) > 1 && addrs[0].Is4() == addrs[1].Is4() {
		c.skip(fmt.Sprintf("%s is a second address of the same family", addrs[1]), "%s[1]", field)
		addrs = addrs[:1]
	}
	if len(addrs) > 2 {
		addrs = addrs[:2]
	}
	return addrs
}

// loadBalancer fills in the addresses whose traffic arrives with them as destination.
func (c *converter) loadBalancer(in *corev1.Service, out *model.Service) {
	for i, ingress := range in.Status.LoadBalancer.Ingress {
		if ingress.IP == "" || ingress.IPMode != nil && *ingress.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		if addr, valid := c.addr(ingress.IP, "status.loadBalancer.ingress[%d].ip", i); valid {
			out.LoadBalancerIPs = append(out.LoadBalancerIPs, addr)
		}
	}
	for i, text := range in.Spec.LoadBalancerSourceRanges {
		prefix, valid := c.prefix(strings.TrimSpace(text), "spec.loadBalancerSourceRanges[%d]", i)
		if valid {
			out.LoadBalancerSourceRanges = append(out.LoadBalancerSourceRanges, prefix)
		}
	}
	// No range means everybody; a list of which nothing is left must not mean that.
	if len(in.Spec.LoadBalancerSourceRanges) > 0 && len(out.LoadBalancerSourceRanges) == 0 {
		out.LoadBalancerIPs = nil
	}
}

func (c *converter) servicePorts(in []corev1.ServicePort) []model.ServicePort {
	var out []model.ServicePort
	for i := range in {
		p := &in[i]
		protocol, known := c.protocol(p.Protocol, "spec.ports[%d].protocol", i)
		port, valid := c.port(p.Port, "spec.ports[%d].port", i)
		if known && valid {
			out = append(out, model.ServicePort{
				Name: c.names.Text(p.Name), Protocol: protocol, Port: port,
				NodePort: c.optionalPort(p.NodePort, "spec.ports[%d].nodePort", i),
			})
		}
	}
	return out
}

// slice converts an EndpointSlice; nil if it belongs to no Service.
func (c *converter) slice(in *discoveryv1.EndpointSlice) *model.EndpointSlice {
	return c.sliceOf(in, in.Labels[discoveryv1.LabelServiceName])
}

// sliceOf converts an EndpointSlice of a Service; nil if the Service has no name.
func (c *converter) sliceOf(in *discoveryv1.EndpointSlice, service string) *model.EndpointSlice {
	if service == "" {
		return nil
	}
	out := &model.EndpointSlice{
		Name:        in.Name,
		Service:     model.ServiceKey{Namespace: c.names.Text(in.Namespace), Name: service},
		Ports:       c.endpointPorts(in.Ports),
		TriggerTime: c.triggerTime(in.Annotations[corev1.EndpointsLastChangeTriggerTime]),
	}
	if in.AddressType != discoveryv1.AddressTypeFQDN && len(in.Endpoints) > 0 {
		out.Endpoints = make([]model.Endpoint, 0, len(in.Endpoints))
		for i := range in.Endpoints {
			if endpoint, valid := c.endpoint(&in.Endpoints[i], in.AddressType, i); valid {
				out.Endpoints = append(out.Endpoints, endpoint)
			}
			if c.literal {
				out.Endpoints = append(out.Endpoints, c.furtherEndpoints(in.Endpoints[i], in.AddressType, i)...)
			}
		}
	}
	return out
}

func (c *converter) triggerTime(text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		c.skip(fmt.Sprintf("%q is not a time", text), "metadata.annotations[%s]", corev1.EndpointsLastChangeTriggerTime)
	}
	return t
}

func (c *converter) endpointPorts(in []discoveryv1.EndpointPort) []model.EndpointPort {
	var out []model.EndpointPort
	for i := range in {
		p := &in[i]
		if p.Port == nil && !c.literal { // "all ports", which only others than Services use
			continue
		}
		protocol, known := c.protocol(value(p.Protocol), "ports[%d].protocol", i)
		port, valid := uint16(0), true
		if p.Port != nil {
			port, valid = c.port(*p.Port, "ports[%d].port", i)
		}
		if known && valid {
			out = append(out, model.EndpointPort{Name: c.names.Text(value(p.Name)), Protocol: protocol, Port: port})
		}
	}
	return out
}

// endpoint converts one endpoint. Of its addresses the first alone is used, because
// consumers must treat the others as undefined (discovery/v1 Endpoint.addresses).
func (c *converter) endpoint(in *discoveryv1.Endpoint, family discoveryv1.AddressType, i int) (model.Endpoint, bool) {
	if len(in.Addresses) == 0 {
		c.skip("has no address", "endpoints[%d].addresses", i)
		return model.Endpoint{}, false
	}
	addr, valid := c.addr(in.Addresses[0], "endpoints[%d].addresses[0]", i)
	if !valid {
		return model.Endpoint{}, false
	}
	if family != "" && addr.Is4() != (family == discoveryv1.AddressTypeIPv4) {
		c.skip(fmt.Sprintf("%s is not of addressType %s", addr, family), "endpoints[%d].addresses[0]", i)
		return model.Endpoint{}, false
	}
	out := model.Endpoint{
		Addr:        addr,
		Ready:       in.Conditions.Ready == nil || *in.Conditions.Ready,
		Terminating: value(in.Conditions.Terminating),
	}
	out.Serving = out.Ready
	if in.Conditions.Serving != nil {
		out.Serving = *in.Conditions.Serving
	}
	about := model.About{Hostname: value(in.Hostname), Node: value(in.NodeName), Zone: value(in.Zone)}
	if in.TargetRef != nil && in.TargetRef.Kind == "Pod" && !c.noTargets {
		about.TargetPod = in.TargetRef.Name
	}
	if in.Hints != nil {
		about.ForZones, about.ForNodes = hints(in.Hints)
	}
	out.About = c.names.About(about)
	return out, true
}

// furtherEndpoints makes an endpoint of each address but the first.
func (c *converter) furtherEndpoints(in discoveryv1.Endpoint, family discoveryv1.AddressType, i int) (out []model.Endpoint) {
	for len(in.Addresses) > 1 {
		in.Addresses = in.Addresses[1:]
		if endpoint, valid := c.endpoint(&in, family, i); valid {
			out = append(out, endpoint)
		}
	}
	return out
}

func hints(in *discoveryv1.EndpointHints) (zones, nodes []string) {
	for _, zone := range in.ForZones {
		zones = append(zones, zone.Name)
	}
	for _, node := range in.ForNodes {
		nodes = append(nodes, node.Name)
	}
	return zones, nodes
}

func (c *converter) namespace(in *corev1.Namespace) *model.Namespace {
	return &model.Namespace{Name: c.names.Text(in.Name)}
}

func (c *converter) node(in *corev1.Node) *model.Node {
	out := &model.Node{
		Name: c.names.Text(in.Name), Zone: c.names.Text(in.Labels[corev1.LabelTopologyZone]), Deleting: in.DeletionTimestamp != nil,
	}
	for _, taint := range in.Spec.Taints {
		out.Taints = append(out.Taints, c.names.Text(taint.Key))
	}
	for i, a := range in.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if addr, valid := c.addr(a.Address, "status.addresses[%d].address", i); valid {
			out.Addresses = append(out.Addresses, addr)
		}
	}
	for i, text := range in.Spec.PodCIDRs {
		if prefix, valid := c.prefix(text, "spec.podCIDRs[%d]", i); valid {
			out.PodCIDRs = append(out.PodCIDRs, prefix)
		}
	}
	if len(in.Spec.PodCIDRs) == 0 && in.Spec.PodCIDR != "" {
		if prefix, valid := c.prefix(in.Spec.PodCIDR, "spec.podCIDR"); valid {
			out.PodCIDRs = append(out.PodCIDRs, prefix)
		}
	}
	return out
}

// pod converts a Pod; nil if it has ended.
func (c *converter) pod(in *corev1.Pod) *model.Pod {
	if in.Status.Phase == corev1.PodSucceeded || in.Status.Phase == corev1.PodFailed {
		return nil
	}
	out := &model.Pod{
		Namespace: c.names.Text(in.Namespace), Name: in.Name,
		HostNetwork: in.Spec.HostNetwork, Addresses: c.podIPs(&in.Status),
	}
	if len(in.Labels) > 0 {
		out.Labels = make(map[string]string, len(in.Labels))
		for key, label := range in.Labels {
			out.Labels[c.names.Text(key)] = c.names.Text(label)
		}
	}
	return out
}

func (c *converter) podIPs(status *corev1.PodStatus) []netip.Addr {
	var out []netip.Addr
	for i, ip := range status.PodIPs {
		if addr, valid := c.addr(ip.IP, "status.podIPs[%d].ip", i); valid {
			out = append(out, addr)
		}
	}
	if len(status.PodIPs) == 0 && status.PodIP != "" {
		if addr, valid := c.addr(status.PodIP, "status.podIP"); valid {
			out = append(out, addr)
		}
	}
	return out
}

func (c *converter) serviceCIDR(in *networkingv1.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for i, text := range in.Spec.CIDRs {
		if prefix, valid := c.prefix(text, "spec.cidrs[%d]", i); valid {
			out = append(out, prefix)
		}
	}
	return out
}

func (c *converter) addrs(texts []string, field string) []netip.Addr {
	var out []netip.Addr
	for i, text := range texts {
		if addr, valid := c.addr(text, "%s[%d]", field, i); valid {
			out = append(out, addr)
		}
	}
	return out
}

// addr reads an address as the API server does: leading zeros are decimal, and an
// IPv4-mapped IPv6 address is an IPv4 address (KEP-4858).
func (c *converter) addr(text, path string, args ...any) (netip.Addr, bool) {
	addr, valid := netip.AddrFromSlice(netutils.ParseIPSloppy(text))
	if !valid {
		c.skip(fmt.Sprintf("%q is not an IP address", text), path, args...)
	}
	return addr.Unmap(), valid
}

func (c *converter) prefix(text, path string, args ...any) (netip.Prefix, bool) {
	_, cidr, err := netutils.ParseCIDRSloppy(text)
	if err != nil {
		c.skip(fmt.Sprintf("%q is not a CIDR such as 10.0.0.0/8", text), path, args...)
		return netip.Prefix{}, false
	}
	addr, _ := netip.AddrFromSlice(cidr.IP)
	ones, bits := cidr.Mask.Size()
	if addr.Is4In6() && bits == 128 {
		c.skip(fmt.Sprintf("%q is an IPv4-mapped IPv6 network", text), path, args...)
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr.Unmap(), ones), true
}

func (c *converter) port(number int32, path string, args ...any) (uint16, bool) {
	if number < 1 || number > 65535 {
		c.skip(fmt.Sprintf("%d is not a port (1 to 65535)", number), path, args...)
		return 0, false
	}
	return uint16(number), true
}

// optionalPort is port for a field that may be 0.
func (c *converter) optionalPort(number int32, path string, args ...any) uint16 {
	if number == 0 {
		return 0
	}
	port, _ := c.port(number, path, args...)
	return port
}

func (c *converter) protocol(p corev1.Protocol, path string, args ...any) (model.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return model.TCP, true
	case corev1.ProtocolUDP:
		return model.UDP, true
	case corev1.ProtocolSCTP:
		return model.SCTP, true
	}
	c.skip(fmt.Sprintf("%q is not a protocol (TCP, UDP or SCTP)", p), path, args...)
	return 0, false
}

// value gives what p points to, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
