package watch

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mooring-project/mooring/internal/model"
)

// resolveSlices does for a Service among manifests what the EndpointSlice controller
// does in a cluster: it looks for the Pods that the selector matches. zones gives the
// zone of a node.
func resolveSlices(c *converter, service *corev1.Service, key model.ServiceKey, families []bool, pods []*corev1.Pod, zones map[string]string) []*model.EndpointSlice {
	selector := labels.SelectorFromSet(service.Spec.Selector)
	var out []*model.EndpointSlice
	for _, is4 := range families {
		groups := make(map[string]*model.EndpointSlice)
		for _, pod := range pods {
			if pod.Namespace != service.Namespace || !selector.Matches(labels.Set(pod.Labels)) {
				continue
			}
			endpoint, serves := podEndpoint(c, service, pod, is4, zones)
			if !serves {
				continue
			}
			ports := targetPorts(c, service, pod)
			group := fmt.Sprint(ports)
			if groups[group] == nil {
				groups[group] = &model.EndpointSlice{Service: key, Ports: ports}
			}
			groups[group].Endpoints = append(groups[group].Endpoints, endpoint)
		}
		out = append(out, named(key.Name, is4, groups)...)
	}
	return out
}

// named numbers slices in the order of their ports, so that names do not depend on the
// order of files.
func named(service string, is4 bool, groups map[string]*model.EndpointSlice) []*model.EndpointSlice {
	family := "ipv6"
	if is4 {
		family = "ipv4"
	}
	var keys []string
	for key := range groups {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var out []*model.EndpointSlice
	for i, key := range keys {
		slice := groups[key]
		slice.Name = fmt.Sprintf("%s-pods-%s-%d", service, family, i)
		slices.SortFunc(slice.Endpoints, func(a, b model.Endpoint) int {
			return cmp.Or(a.Addr.Compare(b.Addr), strings.Compare(a.TargetPod(), b.TargetPod()))
		})
		out = append(out, slice)
	}
	return out
}

// podEndpoint follows the EndpointSlice controller (KEP-1672): a terminating Pod is never
// ready but may serve; publishNotReadyAddresses makes every Pod ready.
func podEndpoint(c *converter, service *corev1.Service, pod *corev1.Pod, is4 bool, zones map[string]string) (model.Endpoint, bool) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return model.Endpoint{}, false
	}
	addrs := c.podIPs(&pod.Status)
	i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() == is4 })
	if i < 0 {
		return model.Endpoint{}, false
	}
	out := model.Endpoint{Addr: addrs[i], Serving: podReady(pod), Terminating: pod.DeletionTimestamp != nil}
	out.Ready = service.Spec.PublishNotReadyAddresses || out.Serving && !out.Terminating
	about := model.About{TargetPod: pod.Name, Node: pod.Spec.NodeName, Zone: zones[pod.Spec.NodeName]}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name {
		about.Hostname = pod.Spec.Hostname
	}
	out.About = c.names.About(about)
	return out, true
}

// podReady takes a Pod without conditions, as people write them by hand, for ready.
func podReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return len(pod.Status.Conditions) == 0
}

// targetPorts gives the ports of a Service as one Pod has them. A named port that the
// Pod lacks is left out.
func targetPorts(c *converter, service *corev1.Service, pod *corev1.Pod) []model.EndpointPort {
	var out []model.EndpointPort
	for i := range service.Spec.Ports {
		p := &service.Spec.Ports[i]
		protocol, known := c.protocol(p.Protocol, "spec.ports[%d].protocol", i)
		number := p.TargetPort.IntVal
		switch {
		case p.TargetPort.Type == intstr.String:
			number = containerPort(pod, p.TargetPort.StrVal, protocol)
		case number == 0:
			number = p.Port
		}
		if known && number >= 1 && number <= 65535 {
			out = append(out, model.EndpointPort{Name: c.names.Text(p.Name), Protocol: protocol, Port: uint16(number)})
		}
	}
	return out
}

// containerPort gives the port of that name in a Pod, sidecars included; 0 if none.
func containerPort(pod *corev1.Pod, name string, protocol model.Protocol) int32 {
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if value(c.RestartPolicy) == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for i := range containers {
		for _, p := range containers[i].Ports {
			if p.Name == name && cmp.Or(string(p.Protocol), "TCP") == protocol.String() {
				return p.ContainerPort
			}
		}
	}
	return 0
}
