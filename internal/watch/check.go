package watch

import (
	"cmp"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-project/mooring/internal/model"
)

// checkService demands what the API server would have filled in or refused.
func checkService(d *document, in *corev1.Service, out *model.Service) error {
	if out.Type == model.ExternalName {
		if out.ExternalName == "" {
			return d.errorf("spec.externalName", "must be set for type ExternalName")
		}
		return nil
	}
	return errors.Join(checkClusterIP(d, in, out), checkPorts(d, in, out))
}

func checkClusterIP(d *document, in *corev1.Service, out *model.Service) error {
	switch {
	case out.Headless && out.Type != model.ClusterIP:
		return d.errorf("spec.clusterIP", "None is allowed for type ClusterIP only, type is %s", out.Type)
	case out.Headless:
		return nil
	case in.Spec.ClusterIP == "" && len(in.Spec.ClusterIPs) == 0:
		return d.errorf("spec.clusterIP", "must be set in manifests (an address of the Service network, or None): there is no API server to allocate one")
	case in.Spec.ClusterIP != "" && len(in.Spec.ClusterIPs) > 0 && in.Spec.ClusterIPs[0] != in.Spec.ClusterIP:
		return d.errorf("spec.clusterIPs[0]", "%q differs from spec.clusterIP %q", in.Spec.ClusterIPs[0], in.Spec.ClusterIP)
	}
	return nil
}

func checkPorts(d *document, in *corev1.Service, out *model.Service) error {
	if len(in.Spec.Ports) == 0 && !out.Headless {
		return d.errorf("spec.ports", "must list at least one port")
	}
	var broken error
	names, numbers := make(map[string]bool), make(map[string]bool)
	for i, p := range in.Spec.Ports {
		field := func(name string) string { return fmt.Sprintf("spec.ports[%d].%s", i, name) }
		number := fmt.Sprintf("%s %d", cmp.Or(p.Protocol, corev1.ProtocolTCP), p.Port)
		switch {
		case p.Name == "" && len(in.Spec.Ports) > 1:
			broken = errors.Join(broken, d.errorf(field("name"), "must be set when there are several ports"))
		case names[p.Name]:
			broken = errors.Join(broken, d.errorf(field("name"), "%q is given twice", p.Name))
		case numbers[number]:
			broken = errors.Join(broken, d.errorf(field("port"), "%s is given twice", number))
		case p.NodePort == 0 && needsNodePort(in, out):
			broken = errors.Join(broken, d.errorf(field("nodePort"),
				"must be set in manifests for type %s (30000 to 32767 is usual): there is no API server to allocate one", out.Type))
		}
		names[p.Name], numbers[number] = true, true
	}
	return broken
}

func needsNodePort(in *corev1.Service, out *model.Service) bool {
	switch out.Type {
	case model.NodePort:
		return true
	case model.LoadBalancer:
		allocate := in.Spec.AllocateLoadBalancerNodePorts
		return allocate == nil || *allocate
	}
	return false
}

// checkShared finds addresses and node ports that two Services claim.
func (c *cluster) checkShared() error {
	var broken error
	owners := make(map[string]string)
	claim := func(d *document, field, what string) {
		if owner, taken := owners[what]; taken {
			broken = errors.Join(broken, d.errorf(field, "%s is that of %s already", what, owner))
			return
		}
		owners[what] = d.object()
	}
	for _, s := range c.services {
		for _, addr := range s.model.ClusterIPs {
			claim(s.document, "spec.clusterIP", "ClusterIP "+addr.String())
		}
		for i, p := range s.model.Ports {
			if p.NodePort != 0 {
				claim(s.document, fmt.Sprintf("spec.ports[%d].nodePort", i), fmt.Sprintf("node port %s %d", p.Protocol, p.NodePort))
			}
		}
	}
	return broken
}
