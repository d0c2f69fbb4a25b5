// Package health answers whether the proxy keeps its node's data plane up to date, on the paths
// and in the form that load balancers and probes know from kube-proxy (pkg/proxy/healthcheck).
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Report is what a probe is told.
type Report struct {
	// LastUpdated is when the data plane last became equal to the plan; zero if it never did.
	LastUpdated time.Time
	// PendingSince is the time since which a change has been waiting; zero if none is.
	PendingSince time.Time
}

// patience is how long a change may wait before the proxy counts as unhealthy: twice the sync
// period that kube-proxy has by default.
const patience = time.Minute

// healthy gives the verdict on a report.
func (r Report) healthy(now time.Time) bool {
	return !r.LastUpdated.IsZero() && (r.PendingSince.IsZero() || now.Sub(r.PendingSince) < patience)
}

// Handler answers /healthz and /livez from what report says at the time.
func Handler(report func() Report) http.Handler {
	answer := func(w http.ResponseWriter, _ *http.Request) {
		now, current := time.Now(), report()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !current.healthy(now) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck,errchkjson // the probe has gone
			"lastUpdated": current.LastUpdated, "currentTime": now, "healthy": current.healthy(now),
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", answer)
	mux.HandleFunc("GET /livez", answer)
	return mux
}

// Serve answers on address until ctx ends. An empty address means no server.
func Serve(ctx context.Context, address string, handler http.Handler, logger *slog.Logger) error {
	if address == "" {
		return nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("server on %s: %w", address, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // probes are short; Serve returns either way
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server on %s: %w", address, err)
	}
	return nil
}
