package watch

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// objectKey names an object of one kind; namespace is empty for cluster-wide ones.
type objectKey struct{ namespace, name string }

func (k objectKey) String() string {
	if k.namespace == "" {
		return k.name
	}
	return k.namespace + "/" + k.name
}

// A kind is one API resource: how it is asked for, converted and stored.
type kind struct {
	resource schema.GroupVersionResource
	// example is an empty object of the kind.
	example    runtime.Object
	namespaced bool
	// labels and fields select on the server's side.
	labels, fields string
	// fieldsOptional says that convert leaves out what fields would, for servers that
	// do not know the selector.
	fieldsOptional bool
	// optional kinds may be missing on the server, or forbidden.
	optional bool

	// convert gives the model value; nil for an object of which nothing is kept.
	convert func(c *converter, object any) any
	// present gives the value in the snapshot if it equals value, else value, so that a
	// relist does not hold a second copy of what it repeats.
	present func(now *state.Snapshot, value any) any
	put     func(tx *state.Txn, key objectKey, value any)
	remove  func(tx *state.Txn, key objectKey)
	// each visits what the store has of the kind.
	each func(tx *state.Txn, visit func(objectKey))
}

func serviceKind(s *Selection) *kind {
	k := &kind{
		resource: corev1.SchemeGroupVersion.WithResource("services"), example: &corev1.Service{}, namespaced: true,
		labels: joinSelectors(s.ServiceLabels, s.Labels),
		convert: func(c *converter, object any) any {
			service := c.service(object.(*corev1.Service))
			if s.NoHeadless && service.Headless {
				return nil
			}
			return service
		},
		present: func(now *state.Snapshot, value any) any {
			service := value.(*model.Service)
			if old := now.Service(service.Key); old != nil && old.Service.Equal(service) {
				return old.Service
			}
			return value
		},
		put: func(tx *state.Txn, _ objectKey, value any) { tx.PutService(value.(*model.Service)) },
		remove: func(tx *state.Txn, key objectKey) {
			tx.DeleteService(model.ServiceKey{Namespace: key.namespace, Name: key.name})
		},
		each: func(tx *state.Txn, visit func(objectKey)) {
			for key := range tx.Snapshot().Services() {
				visit(objectKey{key.Namespace, key.Name})
			}
		},
	}
	if s.NoHeadless {
		k.fields, k.fieldsOptional = "spec.clusterIP!=None", true
	}
	return k
}

func sliceKind(s *Selection) *kind {
	k := &kind{
		resource: discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), example: &discoveryv1.EndpointSlice{}, namespaced: true,
		labels: s.Labels,
		convert: func(c *converter, object any) any {
			if slice := c.slice(object.(*discoveryv1.EndpointSlice)); slice != nil {
				return slice
			}
			return nil
		},
		present: presentSlice,
		put:     func(tx *state.Txn, _ objectKey, value any) { tx.PutSlice(value.(*model.EndpointSlice)) },
		remove:  func(tx *state.Txn, key objectKey) { tx.DeleteSlice(key.namespace, key.name) },
		each: func(tx *state.Txn, visit func(objectKey)) {
			tx.EachSlice(func(namespace, name string) { visit(objectKey{namespace, name}) })
		},
	}
	if s.NoHeadless {
		k.labels = joinSelectors("!"+corev1.IsHeadlessService, s.Labels)
	}
	return k
}

func presentSlice(now *state.Snapshot, value any) any {
	slice := value.(*model.EndpointSlice)
	owner := now.Service(slice.Service)
	if owner == nil {
		return value
	}
	for _, old := range owner.Slices {
		if old.Name == slice.Name && old.Equal(slice) {
			return old
		}
	}
	return value
}

func namespaceKind(s *Selection) *kind {
	return &kind{
		resource: corev1.SchemeGroupVersion.WithResource("namespaces"), example: &corev1.Namespace{},
		labels: s.NamespaceLabels,
		convert: func(c *converter, object any) any {
			namespace := c.namespace(object.(*corev1.Namespace))
			if !s.allows(namespace.Name) {
				return nil
			}
			return namespace
		},
		put:    func(tx *state.Txn, _ objectKey, value any) { tx.PutNamespace(value.(*model.Namespace)) },
		remove: func(tx *state.Txn, key objectKey) { tx.DeleteNamespace(key.name) },
		each: func(tx *state.Txn, visit func(objectKey)) {
			for name := range tx.Snapshot().Namespaces() {
				visit(objectKey{name: name})
			}
		},
	}
}

// nodeKind watches the one Node of that name, all if name is empty.
func nodeKind(name string) *kind {
	k := &kind{
		resource: corev1.SchemeGroupVersion.WithResource("nodes"), example: &corev1.Node{},
		convert: func(c *converter, object any) any { return c.node(object.(*corev1.Node)) },
		put:     func(tx *state.Txn, _ objectKey, value any) { tx.PutNode(value.(*model.Node)) },
		remove:  func(tx *state.Txn, key objectKey) { tx.DeleteNode(key.name) },
		each: func(tx *state.Txn, visit func(objectKey)) {
			for name := range tx.Snapshot().Nodes() {
				visit(objectKey{name: name})
			}
		},
	}
	if name != "" {
		k.fields = "metadata.name=" + name
	}
	return k
}

func podKind(s *Selection) *kind {
	return &kind{
		resource: corev1.SchemeGroupVersion.WithResource("pods"), example: &corev1.Pod{}, namespaced: true,
		labels: s.Labels, fields: "status.phase!=Succeeded,status.phase!=Failed",
		convert: func(c *converter, object any) any {
			in := object.(*corev1.Pod)
			pod := c.pod(in)
			if pod == nil || in.DeletionTimestamp != nil { // it may lose its address at any moment
				return nil
			}
			return pod
		},
		present: func(now *state.Snapshot, value any) any {
			pod := value.(*model.Pod)
			if old := now.Pod(state.PodKey{Namespace: pod.Namespace, Name: pod.Name}); old.Equal(pod) {
				return old
			}
			return value
		},
		put: func(tx *state.Txn, _ objectKey, value any) { tx.PutPod(value.(*model.Pod)) },
		remove: func(tx *state.Txn, key objectKey) {
			tx.DeletePod(state.PodKey{Namespace: key.namespace, Name: key.name})
		},
		each: func(tx *state.Txn, visit func(objectKey)) {
			for key := range tx.Snapshot().Pods() {
				visit(objectKey{key.Namespace, key.Name})
			}
		},
	}
}

// serviceCIDRKind keeps what each ServiceCIDR says, because the store wants all of them
// together. Clusters before 1.33 have no such objects.
func serviceCIDRKind() *kind {
	known := make(map[objectKey][]netip.Prefix)
	commit := func(tx *state.Txn) {
		var all []netip.Prefix
		for _, prefixes := range known {
			all = append(all, prefixes...)
		}
		tx.SetServiceCIDRs(sortedPrefixes(all))
	}
	return &kind{
		resource: networkingv1.SchemeGroupVersion.WithResource("servicecidrs"), example: &networkingv1.ServiceCIDR{},
		optional: true,
		convert:  func(c *converter, object any) any { return c.serviceCIDR(object.(*networkingv1.ServiceCIDR)) },
		put: func(tx *state.Txn, key objectKey, value any) {
			known[key] = value.([]netip.Prefix)
			commit(tx)
		},
		remove: func(tx *state.Txn, key objectKey) {
			delete(known, key)
			commit(tx)
		},
		each: func(_ *state.Txn, visit func(objectKey)) {
			for key := range known {
				visit(key)
			}
		},
	}
}

func sortedPrefixes(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes)
}

// joinSelectors makes the selector that demands all of those given.
func joinSelectors(selectors ...string) string {
	var joined string
	for _, s := range selectors {
		if joined != "" && s != "" {
			joined += ","
		}
		joined += s
	}
	return joined
}
