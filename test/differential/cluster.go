package differential

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// object is an API object.
type object interface {
	metav1.Object
	runtime.Object
}

// objectKey names an object.
type objectKey struct{ resource, namespace, name string }

func (k objectKey) String() string { return k.resource + " " + k.namespace + "/" + k.name }

// cluster is all objects there are. The objects are never changed; a change puts
// another one in the place.
type cluster map[objectKey]object

// resourceKind says how objects of a resource are called.
type resourceKind struct{ apiVersion, kind string }

// listKinds are the resources that the API serves.
var listKinds = map[string]resourceKind{
	"services":       {"v1", "Service"},
	"namespaces":     {"v1", "Namespace"},
	"pods":           {"v1", "Pod"},
	"nodes":          {"v1", "Node"},
	"endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"},
	"servicecidrs":   {"networking.k8s.io/v1", "ServiceCIDR"},
	"serviceimports": {"multicluster.x-k8s.io/v1alpha1", "ServiceImport"},
}

// add puts objects in, in the place of those of the same name.
func (c cluster) add(objects ...object) {
	for _, o := range objects {
		c[keyOf(o)] = o
	}
}

// keyOf names an object, and fills in its kind, which clients leave out.
func keyOf(o object) objectKey {
	key := objectKey{namespace: o.GetNamespace(), name: o.GetName()}
	switch o.(type) {
	case *corev1.Service:
		key.resource = "services"
	case *corev1.Namespace:
		key.resource = "namespaces"
	case *corev1.Pod:
		key.resource = "pods"
	case *discoveryv1.EndpointSlice:
		key.resource = "endpointslices"
	case *mcsv1alpha1.ServiceImport:
		key.resource = "serviceimports"
	}
	kind := listKinds[key.resource]
	o.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(kind.apiVersion, kind.kind))
	return key
}

// keys gives the names of all objects in a fixed order.
func (c cluster) keys() []objectKey {
	return slices.SortedFunc(maps.Keys(c), func(a, b objectKey) int { return strings.Compare(a.String(), b.String()) })
}

// each visits the objects of one type in a fixed order.
func each[T object](c cluster, visit func(T)) {
	for _, key := range c.keys() {
		if o, is := c[key].(T); is {
			visit(o)
		}
	}
}

// String gives the objects as JSON, one a line.
func (c cluster) String() string {
	var text strings.Builder
	for _, key := range c.keys() {
		line, err := json.Marshal(c[key])
		if err != nil {
			line = []byte(err.Error())
		}
		fmt.Fprintf(&text, "%s\n", line)
	}
	return text.String()
}

// fieldsOf gives what field selectors can be about.
func fieldsOf(o object) fields.Set {
	set := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	if pod, is := o.(*corev1.Pod); is {
		set["status.phase"] = string(pod.Status.Phase)
	}
	return set
}
