package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/health/nodeport"
)

func localService(port uint16, vips string) *model.Service {
	return &model.Service{
		Key: model.ServiceKey{Namespace: "shop", Name: "web"}, Type: model.LoadBalancer, ClusterIPs: parse(vips),
		ExternalTrafficPolicy: model.Local, HealthCheckNodePort: port,
		Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}, {Name: "https", Protocol: model.TCP, Port: 443}},
	}
}

func endpoint(ip, node string, ready, serving, terminating bool) model.Endpoint {
	return model.Endpoint{Addr: netip.MustParseAddr(ip), Ready: ready, Serving: serving, Terminating: terminating, About: &model.About{Node: node}}
}

func localSlice(endpoints ...model.Endpoint) *model.EndpointSlice {
	return &model.EndpointSlice{
		Name: "web-1", Service: model.ServiceKey{Namespace: "shop", Name: "web"}, Endpoints: endpoints,
		Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}, {Name: "https", Protocol: model.TCP, Port: 8443}},
	}
}

func TestCountLocal(t *testing.T) {
	tests := []struct {
		name      string
		vips      string
		endpoints []model.Endpoint
		want      map[bool]int
	}{
		{"none", "10.96.0.1", nil, map[bool]int{false: 0}},
		{"here and elsewhere, on two ports", "10.96.0.1", []model.Endpoint{
			endpoint("10.244.1.2", "node-1", true, true, false), endpoint("10.244.2.2", "node-2", true, true, false),
		}, map[bool]int{false: 1}},
		{"terminating ones alone", "10.96.0.1", []model.Endpoint{endpoint("10.244.1.2", "node-1", false, true, true)}, map[bool]int{false: 0}},
		{"both families", "10.96.0.1 fd00::1", []model.Endpoint{
			endpoint("10.244.1.2", "node-1", true, true, false), endpoint("fd00::2", "node-1", true, true, false), endpoint("fd00::3", "node-1", true, true, false),
		}, map[bool]int{false: 1, true: 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			entry := &state.Service{Service: localService(30000, test.vips), Slices: []*model.EndpointSlice{localSlice(test.endpoints...)}}
			if diff := cmp.Diff(test.want, countLocal(entry, "node-1").local); diff != "" {
				t.Errorf("ready endpoints by family, true for IPv6 (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHealthChecksFollowServices asks a real port while objects change.
func TestHealthChecksFollowServices(t *testing.T) {
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).AddrPort().Port()
	free.Close()
	store, logger := state.NewStore(), slog.New(slog.DiscardHandler)
	set := nodeport.NewSet(func() bool { return true }, logger)
	defer set.Close()
	own := &addresses{allowed: config.NodePortAddresses{}, logger: logger}
	checks := newHealthChecks(config.Config{Node: "node-1"}, store, own, set)
	checks.addresses = func(*model.Node) []netip.Addr { return parse("127.0.0.1") }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); checks.run(ctx) }()
	defer func() { cancel(); <-done }()

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	want := func(when string, code int) {
		t.Helper()
		got := -1
		for deadline := time.Now().Add(5 * time.Second); got != code && time.Now().Before(deadline); {
			got = 0
			if response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port)); err == nil {
				got = response.StatusCode
				response.Body.Close()
			}
		}
		if got != code {
			t.Errorf("%s: status %d, want %d (0 is no answer)", when, got, code)
		}
	}
	ready := endpoint("10.244.1.2", "node-1", true, true, false)
	update := func(change func(*state.Txn)) { store.Update(time.Now(), change) }
	update(func(tx *state.Txn) {
		tx.PutService(localService(port, "10.96.0.1"))
		tx.PutSlice(localSlice(ready))
		tx.SetSynced()
	})
	want("an endpoint here", 200)
	update(func(tx *state.Txn) { tx.PutSlice(localSlice(endpoint("10.244.2.2", "node-2", true, true, false))) })
	want("one elsewhere", 503)
	update(func(tx *state.Txn) { tx.PutSlice(localSlice(ready)) })
	want("here again", 200)
	update(func(tx *state.Txn) {
		s := localService(0, "10.96.0.1")
		s.ExternalTrafficPolicy = model.Cluster
		tx.PutService(s)
	})
	want("policy Cluster", 0)
}
