package explain

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
)

func TestService(t *testing.T) {
	web := model.ServiceKey{Namespace: "default", Name: "web"}
	service := func(edit func(*model.Service)) *model.Service {
		s := &model.Service{
			Key: web, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Selector: "app=web",
			Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
		}
		if edit != nil {
			edit(s)
		}
		return s
	}
	slice := func(port string, endpoints ...model.Endpoint) *model.EndpointSlice {
		return &model.EndpointSlice{
			Name: "web-1", Service: web,
			Ports: []model.EndpointPort{{Name: port, Protocol: model.TCP, Port: 8080}}, Endpoints: endpoints,
		}
	}
	ready := model.Endpoint{Addr: netip.MustParseAddr("10.244.1.2"), Ready: true, Serving: true, About: &model.About{TargetPod: "web-a", Node: "node-1"}}
	unready := model.Endpoint{Addr: netip.MustParseAddr("10.244.2.2")}
	tests := []struct {
		name    string
		service *model.Service
		slice   *model.EndpointSlice
		want    string
	}{
		{"one of two serves", service(nil), slice("http", ready, unready), `Service default/web: ClusterIP 10.96.0.10
  port 80/TCP over IPv4: 1 of 2 endpoints serve node node-1
    10.244.1.2:8080          serves, pod web-a, on node-1
    10.244.2.2:8080          not ready
`},
		{"the selector matches nothing", service(nil), nil, `Service default/web: ClusterIP 10.96.0.10
  port 80/TCP over IPv4: 0 of 0 endpoints serve node node-1
    connections are refused: its selector app=web matches no Pod with an address
`},
		{"no selector and no slice", service(func(s *model.Service) { s.Selector = "" }), nil, `Service default/web: ClusterIP 10.96.0.10
  port 80/TCP over IPv4: 0 of 0 endpoints serve node node-1
    connections are refused: it has no selector, and nobody has made an EndpointSlice with an endpoint for it
`},
		{"nobody is ready", service(nil), slice("http", unready), `Service default/web: ClusterIP 10.96.0.10
  port 80/TCP over IPv4: 0 of 1 endpoints serve node node-1
    connections are refused: none of 1 endpoints is fit to serve
    10.244.2.2:8080          not ready
`},
		{"the port has another name", service(nil), slice("https", ready), `Service default/web: ClusterIP 10.96.0.10
  port 80/TCP over IPv4: 0 of 0 endpoints serve node node-1
    connections are refused: no endpoint offers the port named "http" with protocol TCP in this family
`},
		{"an alias", service(func(s *model.Service) {
			s.Type, s.ExternalName, s.ClusterIPs = model.ExternalName, "example.org", nil
		}), nil, "Service default/web: an alias in DNS of example.org\n"},
		{"no such Service, nor its namespace", nil, nil, "Service default/web does not exist, nor does the namespace default\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			snapshot := state.NewStore().Update(time.Time{}, func(tx *state.Txn) {
				if test.service != nil {
					tx.PutService(test.service)
				}
				if test.slice != nil {
					tx.PutSlice(test.slice)
				}
				tx.SetSynced()
			})
			got := Service(snapshot, web, policy.Place{Node: "node-1"})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("explanation (-want +got):\n%s", diff)
			}
		})
	}
}
