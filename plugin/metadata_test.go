package mooring

import (
	"context"
	"net"
	"testing"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"
	"github.com/google/go-cmp/cmp"
)

// from is a request with one question from an address.
func from(t *testing.T, client, question string) request.Request {
	t.Helper()
	return request.Request{
		Req: query(t, question),
		W:   &recorder{remote: &net.UDPAddr{IP: net.ParseIP(client), Port: 40000}},
	}
}

func TestMetadata(t *testing.T) {
	const verified = "pods verified\nzonal"
	for name, test := range map[string]struct {
		properties, client, ask string
		want                    map[string]string
	}{
		"Service": {"", "10.244.1.5", "Web.default.svc.cluster.local. A", map[string]string{
			"service": "web", "namespace": "default", "kind": "svc", "port-name": "", "protocol": "", "endpoint": "",
		}},
		"port": {"", "10.244.1.5", "_http._tcp.web.default.svc.cluster.local. SRV", map[string]string{
			"service": "web", "namespace": "default", "kind": "svc", "port-name": "http", "protocol": "tcp", "endpoint": "",
		}},
		"endpoint of a cluster set": {"multicluster clusterset.local", "10.244.1.5", "db-0.east.db.prod.svc.clusterset.local. A", map[string]string{
			"service": "db", "namespace": "prod", "kind": "svc", "port-name": "", "protocol": "", "endpoint": "db-0", "cluster": "east",
		}},
		"zone": {"zonal", "10.244.1.5", "eu-1.pin._zone.peers.prod.svc.cluster.local. A", map[string]string{
			"service": "peers", "namespace": "prod", "kind": "svc", "port-name": "", "protocol": "", "endpoint": "", "zone": "eu-1",
		}},
		"client": {verified, "fd00:10:244:1::5", "example.org. A", map[string]string{
			"client-namespace": "default", "client-pod-name": "web-0", "client-label/app": "web",
		}},
		"client on a node's network": {verified, "172.30.0.11", "example.org. A", map[string]string{}},
		"client, Pods not watched":   {"", "10.244.1.5", "example.org. A", map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTestPlugin(t, "mooring cluster.local clusterset.local {\n"+test.properties+"\n}")
			ctx := metadata.ContextWithMetadata(context.Background())
			ctx = m.Metadata(ctx, from(t, test.client, test.ask))
			got := make(map[string]string)
			for label, value := range metadata.ValueFuncs(ctx) {
				got[label[len("kubernetes/"):]] = value()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAutoPath(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local {\npods verified\n}")
	m.hostSearch = []string{"example.org."}
	path := []string{"default.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "example.org.", ""}
	for name, test := range map[string]struct {
		client, ask string
		want        []string
	}{
		"Pod":                       {"10.244.1.5", "www.default.svc.cluster.local. A", path},
		"Pod by its second address": {"fd00:10:244:1::5", "www.default.svc.cluster.local. A", path},
		"Pods of two namespaces":    {"172.30.0.11", "www.prod.svc.cluster.local. A", nil},
		"unknown address":           {"192.0.2.1", "www.default.svc.cluster.local. A", nil},
		"zone that is not ours":     {"10.244.1.5", "www.example.org. A", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, m.AutoPath(from(t, test.client, test.ask))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
