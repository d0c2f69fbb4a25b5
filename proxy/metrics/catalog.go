package metrics

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// A catalog is a registry that can list what is in it, observed or not, for the documentation.
type catalog struct {
	registry *prometheus.Registry
	entries  []entry
}

type entry struct {
	name, kind, help string
	labels           []string
}

func (c *catalog) note(collector prometheus.Collector, kind, name, help string, labels []string) {
	c.registry.MustRegister(collector)
	c.entries = append(c.entries, entry{name, kind, help, labels})
}

func (c *catalog) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	c.note(v, "counter", name, help, labels)
	return v
}

func (c *catalog) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	c.note(v, "gauge", name, help, labels)
	return v
}

func (c *catalog) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	c.note(v, "histogram", name, help, labels)
	return v
}

// Document gives the list of all metrics of this package as a Markdown table, sorted by name.
func (m *Metrics) Document() string {
	entries := slices.Clone(m.catalog.entries)
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.name, e.kind, strings.Join(e.labels, ", "), e.help)
	}
	return b.String()
}
