package metrics

import (
	"io"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// About is what the pages say of the program.
type About struct {
	Version string
	// Configz is the configuration as JSON, Flags the command line's.
	Configz []byte
	Flags   map[string]string
	// Profiling has /debug/pprof/ answer.
	Profiling bool
	// Drains answers /drains, nil if nothing does.
	Drains http.Handler
}

// Handler answers what kube-proxy's port 10249 does: /metrics, /metrics/slis, /healthz,
// /proxyMode, /configz, /flagz, /statusz, and /debug/pprof/; and besides /drains.
func (m *Metrics) Handler(about About) http.Handler {
	mux, slis := http.NewServeMux(), newSLIs()
	gather := promhttp.HandlerFor(m.catalog.registry, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		m.refresh(time.Now())
		gather.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		slis.observe()
		text("text/plain; charset=utf-8", "ok")(w, r)
	})
	slis.install(mux)
	// Tests of the Kubernetes project and some network plugins ask for the mode.
	mux.HandleFunc("GET /proxyMode", text("text/plain; charset=utf-8", "ipvs"))
	mux.HandleFunc("GET /configz", text("application/json", string(about.Configz)))
	mux.HandleFunc("GET /flagz", flagzPage(about.Flags))
	paths := []string{"/configz", "/flagz", "/healthz", "/metrics", "/proxyMode"}
	if about.Drains != nil {
		paths = append(paths, "/drains")
		mux.Handle("GET /drains", about.Drains)
	}
	if about.Profiling {
		paths = append(paths, "/debug")
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	slices.Sort(paths)
	mux.HandleFunc("GET /statusz", m.statusz(about.Version, paths))
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
