package main

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-project/mooring/test/bench/objects"
)

const manyEndpoints = 100 // of the headless Service

// cluster describes synthetic objects: so many Services with so many endpoints each,
// spread over the namespaces, a headless one with manyEndpoints, and those that the
// latency measurement changes.
type cluster struct{ services, endpoints int }

// fill puts all objects into the API server.
func (c cluster) fill(api *apiServer) error {
	for i := range objects.Namespaces {
		if err := api.put("namespaces", objects.Namespace(objects.NamespaceName(i))); err != nil {
			return err
		}
	}
	for i := range c.services {
		if err := c.put(api, i); err != nil {
			return err
		}
	}
	crowd := objects.Service("ns-0", "crowd", corev1.ClusterIPNone)
	if err := api.put("services", crowd); err != nil {
		return err
	}
	return api.put("endpointslices", objects.Slice(crowd, objects.PodAddresses(c.services, manyEndpoints)))
}

func (c cluster) put(api *apiServer, i int) error {
	service := objects.Service(objects.NamespaceOf(i), objects.NameOf(i), objects.ClusterIP(i))
	if err := api.put("services", service); err != nil {
		return err
	}
	return api.put("endpointslices", objects.Slice(service, objects.PodAddresses(i, c.endpoints)))
}
