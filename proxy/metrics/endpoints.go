package metrics

import "github.com/prometheus/client_golang/prometheus"

// An Endpoint is a real server of the kernel, with what it holds and has held since it was made.
type Endpoint struct {
	// Service is namespace and name, empty if that is not known; VirtualServer and Address are
	// as plans print them.
	Service, VirtualServer, Address                       string
	Active, Inactive                                      uint32
	Connections, PacketsIn, PacketsOut, BytesIn, BytesOut uint64
}

// endpoints collects the metrics of each endpoint at the time of a scrape.
type endpoints struct {
	read    func(visit func(Endpoint))
	figures []figure
}

// figure is one metric of an endpoint.
type figure struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	of          func(Endpoint) float64
}

var endpointLabels = []string{"service", "virtual_server", "endpoint"}

func (m *Metrics) defineEndpoints() {
	e := &endpoints{read: m.sources.Endpoints}
	for _, d := range []struct {
		name, help string
		kind       prometheus.ValueType
		of         func(Endpoint) float64
	}{
		{"mooring_endpoint_active_connections", "Connections that an endpoint has, in TCP those that are established.", prometheus.GaugeValue, func(e Endpoint) float64 { return float64(e.Active) }},
		{"mooring_endpoint_inactive_connections", "Its other connections.", prometheus.GaugeValue, func(e Endpoint) float64 { return float64(e.Inactive) }},
		{"mooring_endpoint_connections_total", "Connections that an endpoint has had.", prometheus.CounterValue, func(e Endpoint) float64 { return float64(e.Connections) }},
		{"mooring_endpoint_received_packets_total", "Packets to an endpoint.", prometheus.CounterValue, func(e Endpoint) float64 { return float64(e.PacketsIn) }},
		{"mooring_endpoint_sent_packets_total", "Packets from an endpoint.", prometheus.CounterValue, func(e Endpoint) float64 { return float64(e.PacketsOut) }},
		{"mooring_endpoint_received_bytes_total", "Octets to an endpoint.", prometheus.CounterValue, func(e Endpoint) float64 { return float64(e.BytesIn) }},
		{"mooring_endpoint_sent_bytes_total", "Octets from an endpoint.", prometheus.CounterValue, func(e Endpoint) float64 { return float64(e.BytesOut) }},
	} {
		help := d.help + " With --endpoint-metrics alone."
		e.figures = append(e.figures, figure{prometheus.NewDesc(d.name, help, endpointLabels, nil), d.kind, d.of})
		kind := "gauge"
		if d.kind == prometheus.CounterValue {
			kind = "counter"
		}
		m.catalog.entries = append(m.catalog.entries, entry{d.name, kind, help, endpointLabels})
	}
	if e.read != nil {
		m.catalog.registry.MustRegister(e)
	}
}

// Describe implements prometheus.Collector.
func (e *endpoints) Describe(descriptions chan<- *prometheus.Desc) {
	for _, f := range e.figures {
		descriptions <- f.description
	}
}

// Collect implements prometheus.Collector.
func (e *endpoints) Collect(metrics chan<- prometheus.Metric) {
	e.read(func(of Endpoint) {
		for _, f := range e.figures {
			metrics <- prometheus.MustNewConstMetric(f.description, f.kind, f.of(of), of.Service, of.VirtualServer, of.Address)
		}
	})
}
