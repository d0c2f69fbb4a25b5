package watch

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/state"
)

const (
	manySlices = 600
	perSlice   = 100
)

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// bigSlice is a slice as the API server sends it, with strings of its own.
func bigSlice(i int) *discoveryv1.EndpointSlice {
	service := fmt.Sprintf("service-%d", i)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("namespace-%d", i%50), Name: service + "-abcde",
			Labels: map[string]string{discoveryv1.LabelServiceName: service, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for e := range perSlice {
		node, zone := fmt.Sprintf("node-%d", e), fmt.Sprintf("zone-%d", e%3)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i>>8, i&255, e)}, NodeName: &node, Zone: &zone,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: slice.Namespace, Name: fmt.Sprintf("%s-5d4f8c7b9-%05d", service, e)},
			Hints:     &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}},
		})
	}
	return slice
}

// TestRelistHoldsNoSecondCopy streams a whole list twice, as a reflector does, and
// compares the memory at the moment when the second is complete but not yet committed.
func TestRelistHoldsNoSecondCopy(t *testing.T) {
	store, names := state.NewStore(), &intern.Names{}
	selection := &Selection{}
	newSink := func(k *kind) *sink {
		return &sink{
			kind: k, selection: selection, store: store, converter: converter{names: names},
			status: newStatusBoard(slog.Default(), "services", "endpointslices"), logger: slog.Default(), listed: func(*state.Txn) {},
		}
	}
	services, endpoints := newSink(serviceKind(selection)), newSink(sliceKind(selection))
	stream := func() []any {
		var list []any
		for i := range manySlices {
			k, err := endpoints.Transformer()(bigSlice(i))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, k)
		}
		return list
	}
	before := heap()
	for i := range manySlices {
		if err := services.Add(apiService(fmt.Sprintf("namespace-%d", i%50), fmt.Sprintf("service-%d", i), "10.96.0.1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := endpoints.Replace(stream(), ""); err != nil {
		t.Fatal(err)
	}
	steady, first := heap()-before, store.Load()
	list := stream()
	peak := heap() - before
	if err := endpoints.Replace(list, ""); err != nil {
		t.Fatal(err)
	}
	if store.Load() != first {
		t.Error("a relist without changes made a new snapshot")
	}
	t.Logf("%d endpoints: %d bytes each, %d during a relist", manySlices*perSlice, steady/(manySlices*perSlice), peak/(manySlices*perSlice))
	if peak > steady*13/10 {
		t.Errorf("%d bytes in use during a relist, %d before", peak, steady)
	}
	runtime.KeepAlive(names)
}
