package policy

import (
	"net/netip"
	"testing"

	"github.com/mooring-project/mooring/internal/model"
)

func TestUnfit(t *testing.T) {
	for text, want := range map[string]bool{
		"10.244.1.2": false, "240.0.0.1": false, "fd00::1": false, "172.30.0.255": false,
		"0.0.0.0": true, "0.1.2.3": true, "127.1.2.3": true, "224.0.0.1": true, "239.1.2.3": true, "255.255.255.255": true, "169.254.169.254": true,
		"::": true, "::1": true, "fe80::1": true, "ff02::1": true, "ff0e::1": true,
	} {
		if got := Unfit(netip.MustParseAddr(text)) != ""; got != want {
			t.Errorf("%s: unfit %v, want %v", text, got, want)
		}
	}
}

func TestAnUnfitEndpointServesUnderNoPolicy(t *testing.T) {
	port := model.ServicePort{Name: "http", Protocol: model.TCP, Port: 80}
	slice := &model.EndpointSlice{
		Ports:     []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}},
		Endpoints: []model.Endpoint{{Addr: netip.MustParseAddr("239.1.2.3"), Serving: true, Terminating: true, About: &model.About{Node: "a", ForZones: []string{"z"}}}},
	}
	place := Place{Node: "a", Zone: "z"}
	for _, traffic := range []model.TrafficPolicy{model.Cluster, model.Local} {
		for _, ready := range []bool{true, false} {
			slice.Endpoints[0].Ready = ready
			got := Select([]*model.EndpointSlice{slice}, port, false, traffic, place)
			if len(got) != 1 || got[0].Use || got[0].Reason != UnfitAddress {
				t.Errorf("policy %s, ready %v: %+v", traffic, ready, got)
			}
		}
	}
}
