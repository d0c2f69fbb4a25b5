package policy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
)

var (
	web  = model.ServicePort{Name: "http", Protocol: model.TCP, Port: 80}
	here = Place{Node: "node-1", Zone: "a"}
)

func endpoint(addr, node string, edit ...func(*model.Endpoint)) model.Endpoint {
	e := model.Endpoint{Addr: netip.MustParseAddr(addr), Ready: true, Serving: true, About: &model.About{Node: node}}
	for _, f := range edit {
		f(&e)
	}
	return e
}

func unready(e *model.Endpoint)     { e.Ready, e.Serving = false, false }
func terminating(e *model.Endpoint) { e.Ready, e.Terminating = false, true }
func gone(e *model.Endpoint)        { e.Ready, e.Serving, e.Terminating = false, false, true }
func zones(z ...string) func(*model.Endpoint) {
	return func(e *model.Endpoint) { e.About.ForZones = z }
}

func nodes(n ...string) func(*model.Endpoint) {
	return func(e *model.Endpoint) { e.About.ForNodes = n }
}

func slice(port uint16, endpoints ...model.Endpoint) *model.EndpointSlice {
	return &model.EndpointSlice{
		Ports:     []model.EndpointPort{{Name: "metrics", Protocol: model.TCP, Port: 9}, {Name: "http", Protocol: model.TCP, Port: port}},
		Endpoints: endpoints,
	}
}

func TestSelect(t *testing.T) {
	tests := []struct {
		name    string
		slices  []*model.EndpointSlice
		ipv6    bool
		traffic model.TrafficPolicy
		want    []string // "target: reason"
	}{
		{"no slices", nil, false, model.Cluster, nil},
		{
			"ready ones serve, unready ones do not",
			[]*model.EndpointSlice{slice(8080, endpoint("10.0.0.1", "node-1"), endpoint("10.0.0.2", "node-2", unready))},
			false, model.Cluster,
			[]string{"10.0.0.1:8080: serves", "10.0.0.2:8080: not ready"},
		},
		{
			"families are kept apart",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "")), slice(80, endpoint("fd00::1", ""))},
			true, model.Cluster,
			[]string{"[fd00::1]:80: serves"},
		},
		{
			"a port of another name is not offered",
			[]*model.EndpointSlice{{Ports: []model.EndpointPort{{Name: "https", Protocol: model.TCP, Port: 1}}, Endpoints: []model.Endpoint{endpoint("10.0.0.1", "")}}},
			false, model.Cluster, nil,
		},
		{
			"terminating ones serve when none is ready",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "", terminating), endpoint("10.0.0.2", "", gone))},
			false, model.Cluster,
			[]string{"10.0.0.1:80: serves while terminating: no endpoint is ready", "10.0.0.2:80: terminating"},
		},
		{
			"terminating ones rest while one is ready",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "", terminating), endpoint("10.0.0.2", ""))},
			false, model.Cluster,
			[]string{"10.0.0.1:80: terminating", "10.0.0.2:80: serves"},
		},
		{
			"local policy takes this node's alone",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "node-1"), endpoint("10.0.0.2", "node-2"))},
			false, model.Local,
			[]string{"10.0.0.1:80: serves", "10.0.0.2:80: policy Local: runs on another node"},
		},
		{
			"local policy falls back to this node's terminating one, not to another node",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "node-1", terminating), endpoint("10.0.0.2", "node-2"))},
			false, model.Local,
			[]string{"10.0.0.1:80: serves while terminating: no endpoint is ready", "10.0.0.2:80: policy Local: runs on another node"},
		},
		{
			"a pod in two slices counts once, as the ready one",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "", gone)), slice(80, endpoint("10.0.0.1", ""))},
			false, model.Cluster,
			[]string{"10.0.0.1:80: serves", "10.0.0.1:80: another endpoint has the same address and port"},
		},
		{
			"a named target port is another one in each slice",
			[]*model.EndpointSlice{slice(8080, endpoint("10.0.0.1", "")), slice(9090, endpoint("10.0.0.2", ""), endpoint("10.0.0.1", ""))},
			false, model.Cluster,
			[]string{"10.0.0.1:8080: serves", "10.0.0.1:9090: serves", "10.0.0.2:9090: serves"},
		},
		{
			"zone hints narrow when all have them",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "", zones("a")), endpoint("10.0.0.2", "", zones("b")))},
			false, model.Cluster,
			[]string{"10.0.0.1:80: serves", "10.0.0.2:80: topology hints: meant for another zone"},
		},
		{
			"one endpoint without a hint switches hints off",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "", zones("a")), endpoint("10.0.0.2", ""))},
			false, model.Cluster,
			[]string{"10.0.0.1:80: serves", "10.0.0.2:80: serves"},
		},
		{
			"an unready endpoint without a hint does not",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "", zones("b")), endpoint("10.0.0.2", "", zones("a")), endpoint("10.0.0.3", "", unready))},
			false, model.Cluster,
			[]string{"10.0.0.1:80: topology hints: meant for another zone", "10.0.0.2:80: serves", "10.0.0.3:80: not ready"},
		},
		{
			"no endpoint meant for this zone switches hints off",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "", zones("b")), endpoint("10.0.0.2", "", zones("c")))},
			false, model.Cluster,
			[]string{"10.0.0.1:80: serves", "10.0.0.2:80: serves"},
		},
		{
			"node hints go before zone hints",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "", zones("a"), nodes("node-2")), endpoint("10.0.0.2", "", zones("b"), nodes("node-1")))},
			false, model.Cluster,
			[]string{"10.0.0.1:80: topology hints: meant for another node", "10.0.0.2:80: serves"},
		},
		{
			"hints do not narrow a local policy",
			[]*model.EndpointSlice{slice(80, endpoint("10.0.0.1", "node-1", zones("b")))},
			false, model.Local,
			[]string{"10.0.0.1:80: serves"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, v := range Select(test.slices, web, test.ipv6, test.traffic, here) {
				got = append(got, v.Target.String()+": "+string(v.Reason))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
}
