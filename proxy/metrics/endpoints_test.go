package metrics

import "testing"

func TestEndpointsAreMeasuredIfWanted(t *testing.T) {
	read := func(visit func(Endpoint)) {
		visit(Endpoint{
			Service: "default/web", VirtualServer: "tcp 10.96.0.10:80", Address: "10.244.1.2:8080",
			Active: 3, Inactive: 4, Connections: 1 << 40, PacketsIn: 5, PacketsOut: 6, BytesIn: 7, BytesOut: 8,
		})
	}
	const labels = `{endpoint="10.244.1.2:8080",service="default/web",virtual_server="tcp 10.96.0.10:80"}`
	f := newFixture()
	f.sources.Endpoints = read
	f.Metrics = New(f.sources)
	for name, value := range map[string]string{
		"active_connections": "3", "inactive_connections": "4", "connections_total": "1.099511627776e+12",
		"received_packets_total": "5", "sent_packets_total": "6", "received_bytes_total": "7", "sent_bytes_total": "8",
	} {
		f.want(t, "wanted", "mooring_endpoint_"+name, labels+" "+value)
	}
	newFixture().want(t, "not wanted", "mooring_endpoint_active_connections")
}
