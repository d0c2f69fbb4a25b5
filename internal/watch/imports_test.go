package watch

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

func TestImports(t *testing.T) {
	api := newAPIServer(t)
	api.put("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	api.put("serviceimports", &mcsv1.ServiceImport{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: mcsv1.ServiceImportSpec{
			Type: mcsv1.ClusterSetIP, IPs: []string{"10.112.0.1"}, Ports: []mcsv1.ServicePort{{Name: "http", Protocol: "TCP", Port: 80}},
		},
	})
	slice := apiSlice("shop", "imported-web-east", "", "10.244.1.1")
	slice.Labels = map[string]string{mcsv1.LabelServiceName: "web", mcsv1.LabelSourceCluster: "east"}
	api.put("endpointslices", slice)

	store := state.NewStore()
	source, err := NewImports(KubernetesConfig{
		Master: "http://" + api.addr, ContentType: "application/json", QPS: -1, Logger: slog.New(slog.NewTextHandler(&logBook{}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	runSource(t, source, store)
	until(t, "the list", func() bool { return store.Load().Synced })

	key := model.ServiceKey{Namespace: "shop", Name: "web"}
	want := &state.Service{
		Service: &model.Service{
			Key: key, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.112.0.1")},
			Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
		},
		Slices: []*model.EndpointSlice{{
			Name: "imported-web-east", Service: key, Cluster: "east", Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}},
			Endpoints: []model.Endpoint{{Addr: netip.MustParseAddr("10.244.1.1"), Ready: true, Serving: true, About: &model.About{Node: "n1"}}},
		}},
	}
	got := store.Load().Service(key)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(state.Service{}), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
