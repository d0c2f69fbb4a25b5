package deploy

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/mooring-project/mooring/test/controlplane"
)

// start starts a control plane, or skips in a short run.
func start(t *testing.T, options controlplane.Options) *controlplane.ControlPlane {
	if testing.Short() {
		t.Skip("starts a real control plane, which takes seconds, and its first build minutes: left out by -short")
	}
	options.Log, options.NoControllerManager = os.Stderr, true
	plane, err := controlplane.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	return plane
}

// applier writes any object to an API server.
type applier struct {
	client dynamic.Interface
	mapper meta.RESTMapper
}

func newApplier(t *testing.T, plane *controlplane.ControlPlane) applier {
	client, err := dynamic.NewForConfig(plane.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	resources, err := discovery.NewDiscoveryClientForConfig(plane.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return applier{client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(resources))}
}

// apply does what `kubectl apply --server-side` does.
func (a applier) apply(ctx context.Context, o *unstructured.Unstructured, options metav1.ApplyOptions) error {
	kind := o.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	options.FieldManager = "mooring-test"
	_, err = a.client.Resource(mapping.Resource).Namespace(o.GetNamespace()).Apply(ctx, o.GetName(), o, options)
	return err
}

func TestTheAPIServerAcceptsEveryObject(t *testing.T) {
	plane := start(t, controlplane.Options{})
	server := newApplier(t, plane)
	all := map[string]map[string]*unstructured.Unstructured{}
	for _, v := range variants {
		objects, err := kustomize(v.overlay)
		if err != nil {
			t.Fatal(err)
		}
		all[v.overlay] = objects
	}
	objects, err := examples()
	if err != nil {
		t.Fatal(err)
	}
	all["examples"] = objects
	for _, where := range slices.Sorted(maps.Keys(all)) {
		t.Run(strings.ReplaceAll(where, "/", "-"), func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(all[where])) {
				err := server.apply(t.Context(), all[where][name], metav1.ApplyOptions{DryRun: []string{metav1.DryRunAll}})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wrong := all["base"]["Deployment kube-system/mooring-dns"].DeepCopy()
	if err := unstructured.SetNestedField(wrong.Object, "no number", "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	if server.apply(t.Context(), wrong, metav1.ApplyOptions{DryRun: []string{metav1.DryRunAll}}) == nil {
		t.Error("the server accepts a Deployment that is wrong")
	}
}
