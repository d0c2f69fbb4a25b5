package watch

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/mooring-project/mooring/internal/model"
)

// NewImports prepares a Source of the Services that a cluster set has imported into this
// cluster (Multi-Cluster Services API, KEP-1645): ServiceImports as Services, and the
// EndpointSlices that come with them, each with the cluster it is from. It wants a Store
// of its own, because an import has the name of the Service it stands for. Want is not
// used; Namespaces are read too.
func NewImports(config KubernetesConfig) (Source, error) {
	return newKubernetes(config, func(s *Selection) []*kind {
		kinds := []*kind{importKind(s), namespaceKind(s)}
		if !s.NoEndpoints {
			kinds = append(kinds, importSliceKind(s))
		}
		return kinds
	})
}

func importKind(s *Selection) *kind {
	k := serviceKind(&Selection{Namespaces: s.Namespaces})
	k.resource, k.example = mcsv1.SchemeGroupVersion.WithResource("serviceimports"), &mcsv1.ServiceImport{}
	k.optional = true // the API is an extension, which may be installed later
	k.convert = func(c *converter, object any) any { return c.serviceImport(object.(*mcsv1.ServiceImport)) }
	return k
}

func importSliceKind(s *Selection) *kind {
	k := sliceKind(&Selection{Namespaces: s.Namespaces})
	k.labels = joinSelectors(mcsv1.LabelServiceName, s.Labels)
	k.convert = func(c *converter, object any) any {
		in := object.(*discoveryv1.EndpointSlice)
		out := c.sliceOf(in, in.Labels[mcsv1.LabelServiceName])
		if out == nil {
			return nil
		}
		out.Cluster = c.names.Text(in.Labels[mcsv1.LabelSourceCluster])
		return out
	}
	return k
}

// serviceImport converts a ServiceImport.
func (c *converter) serviceImport(in *mcsv1.ServiceImport) *model.Service {
	out := &model.Service{
		Key:      model.ServiceKey{Namespace: c.names.Text(in.Namespace), Name: in.Name},
		Headless: in.Spec.Type == mcsv1.Headless,
	}
	for i := range in.Spec.Ports {
		p := &in.Spec.Ports[i]
		protocol, known := c.protocol(corev1.Protocol(p.Protocol), "spec.ports[%d].protocol", i)
		port, valid := c.port(p.Port, "spec.ports[%d].port", i)
		if known && valid {
			out.Ports = append(out.Ports, model.ServicePort{Name: c.names.Text(p.Name), Protocol: protocol, Port: port})
		}
	}
	if out.Headless {
		return out
	}
	out.ClusterIPs = c.addrs(in.Spec.IPs, "spec.ips")
	if len(out.ClusterIPs) > 2 {
		c.skip(fmt.Sprintf("%d addresses; two are kept", len(out.ClusterIPs)), "spec.ips")
		out.ClusterIPs = out.ClusterIPs[:2]
	}
	return out
}
