package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// slis are what Kubernetes' components measure of their health checks at /metrics/slis (KEP-3466).
// As in kube-proxy the only check is that /healthz of this port answers.
type slis struct {
	registry *prometheus.Registry
	last     *prometheus.GaugeVec
	total    *prometheus.CounterVec
}

func newSLIs() *slis {
	s := &slis{
		registry: prometheus.NewRegistry(),
		last:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubernetes_healthcheck", Help: "This metric records the result of a single healthcheck."}, []string{"name", "type"}),
		total:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubernetes_healthchecks_total", Help: "This metric records the results of all healthcheck."}, []string{"name", "type", "status"}),
	}
	s.registry.MustRegister(s.last, s.total)
	return s
}

// observe counts an answer.
func (s *slis) observe() {
	s.last.WithLabelValues("ping", "healthz").Set(1)
	s.total.WithLabelValues("ping", "healthz", "success").Inc()
}

// install adds the path; who may reset the measurements may also stop the process.
func (s *slis) install(mux *http.ServeMux) {
	mux.Handle("GET /metrics/slis", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("DELETE /metrics/slis", func(w http.ResponseWriter, r *http.Request) {
		s.last.Reset()
		s.total.Reset()
		text("text/plain; charset=utf-8", "metrics reset\n")(w, r)
	})
}
