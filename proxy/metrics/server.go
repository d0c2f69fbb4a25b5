package metrics

import (
	"io"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler answers what kube-proxy's port 10249 does: /metrics, /healthz, /proxyMode, and
// /configz with the given JSON; /debug/pprof/ only if profiling is wanted.
func (m *Metrics) Handler(configz []byte, profiling bool) http.Handler {
	mux := http.NewServeMux()
	gather := promhttp.HandlerFor(m.catalog.registry, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		m.refresh(time.Now())
		gather.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /healthz", text("text/plain; charset=utf-8", "ok"))
	// Tests of the Kubernetes project and some network plugins ask for the mode.
	mux.HandleFunc("GET /proxyMode", text("text/plain; charset=utf-8", "ipvs"))
	mux.HandleFunc("GET /configz", text("application/json", string(configz)))
	if profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// text answers always the same.
func text(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		io.WriteString(w, body) //nolint:errcheck // the client has gone
	}
}
