// Package health answers whether the proxy keeps its node's data plane up to date, on the paths
// and in the form that load balancers and probes know from kube-proxy (pkg/proxy/healthcheck).
//
// One answer differs: until the first sync is done kube-proxy's /healthz says 200, ours 503, so
// that no load balancer sends traffic to a node that cannot take it. /livez says 200 then:
// waiting for an API server is no reason to be restarted.
package health

import (
	"encoding/json"
	"net/http"
	"time"
)

// Report is what a probe is told.
type Report struct {
	// LastUpdated is when the data plane last became equal to the plan; zero if it never did.
	LastUpdated time.Time
	// PendingSince is the time since which a change has been waiting; zero if none is.
	PendingSince time.Time
	// Eligible says that the node is not about to go away.
	Eligible bool
	// Families are the address families that are served, "IPv4" and "IPv6".
	Families []string
}

// InTime tells whether no change has been waiting for as long as patience.
func (r Report) InTime(now time.Time, patience time.Duration) bool {
	return r.PendingSince.IsZero() || now.Sub(r.PendingSince) < patience
}

// A Server answers /healthz and /livez.
type Server struct {
	// Report is asked for each answer.
	Report func() Report
	// Patience is how long a change may wait before the proxy counts as unhealthy.
	Patience time.Duration
	// Answered, if not nil, is told each answer.
	Answered func(path string, code int)
}

// answer is the body, with kube-proxy's names.
type answer struct {
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyAnswer `json:"status,omitempty"`
}

type familyAnswer struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// Handler serves the two paths.
func (s Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		now, report := time.Now(), s.Report()
		a := s.answer(now, report)
		a.NodeEligible = &report.Eligible
		s.send(w, "/healthz", a, a.Healthy && report.Eligible && !report.LastUpdated.IsZero())
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		a := s.answer(time.Now(), s.Report())
		s.send(w, "/livez", a, a.Healthy)
	})
	return mux
}

func (s Server) answer(now time.Time, report Report) answer {
	a := answer{
		LastUpdated: report.LastUpdated, CurrentTime: now, Healthy: report.InTime(now, s.Patience),
		Status: make(map[string]familyAnswer),
	}
	if !report.LastUpdated.IsZero() {
		for _, family := range report.Families {
			a.Status[family] = familyAnswer{report.LastUpdated, a.Healthy}
		}
	}
	return a
}

func (s Server) send(w http.ResponseWriter, path string, a answer, good bool) {
	code := http.StatusOK
	if good {
		// Probes of old take this for the time of the last round of a loop that runs all
		// the time; kube-proxy keeps them content in the same way.
		a.LastUpdated = a.CurrentTime
	} else {
		code = http.StatusServiceUnavailable
	}
	if s.Answered != nil {
		s.Answered(path, code)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(a) //nolint:errcheck,errchkjson // the probe has gone
}
