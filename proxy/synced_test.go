package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-project/mooring/proxy/config"
)

// What kube-proxy 1.37 says of itself (mode ipvs), from its start to the end of its first sync.
const (
	starting   = "# TYPE kubeproxy_sync_proxy_rules_endpoint_changes_total counter\nkubeproxy_sync_proxy_rules_endpoint_changes_total 0\n"
	begun      = starting + lastQueued + `{ip_family="IPv4"} 1.795896779985e+09` + "\n" + lastQueued + `{ip_family="IPv6"} 1.795896779986e+09` + "\n"
	oneSynced  = begun + lastSync + `{ip_family="IPv4"} 1.795896790e+09` + "\n"
	bothSynced = oneSynced + lastSync + `{ip_family="IPv6"} 1.795896791e+09` + "\n"
)

func TestFirstSync(t *testing.T) {
	for _, test := range []struct {
		name, metrics string
		want          bool
		err           string
	}{
		{"somebody else's", "process_start_time_seconds 1\n", false, "not kube-proxy's"},
		{"nothing", "", false, "not kube-proxy's"},
		{"kube-proxy that has not come to its loop", starting, false, ""},
		{"begun", begun, false, ""},
		{"one family of two", oneSynced, false, ""},
		{"both", bothSynced, true, ""},
		{"kube-proxy of one family", strings.ReplaceAll(oneSynced, "IPv6", "IPv4"), true, ""},
		{"an older one without families, begun", starting + lastSync + " 0\n" + lastQueued + " 1.7e+09\n", false, ""},
		{"an older one without families, synced", starting + lastSync + " 1.7e+09\n" + lastQueued + " 1.7e+09\n", true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := firstSync(strings.NewReader(test.metrics))
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("synced: %t, error %v", got, err)
			}
		})
	}
}

// serveMetrics answers as kube-proxy does: healthy from the start, with the metrics of the moment.
func serveMetrics(t *testing.T, metrics func(asked int) string) (address string) {
	t.Helper()
	l := listener(t)
	var asked atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		if text := metrics(int(asked.Add(1))); text != "" {
			_, _ = io.WriteString(w, text) // the client notices
			return
		}
		http.NotFound(w, nil)
	})
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: mux}
	go server.Serve(l) //nolint:errcheck // ends with the server
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

func TestWaitsUntilKubeProxyHasSynced(t *testing.T) {
	moments := []string{starting, oneSynced, bothSynced}
	var last int
	address := serveMetrics(t, func(asked int) string { last = asked; return moments[asked-1] })
	var log strings.Builder
	err := awaitSync(t.Context(), config.Config{MetricsAddress: address}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || last != len(moments) || strings.Count(log.String(), "has not synced yet") != 1 {
		t.Errorf("error %v when asked %d times of %d; log:\n%s", err, last, len(moments), &log)
	}
}

func TestWhoEndsTheWaitForKubeProxyIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := serveMetrics(t, func(int) string { cancel(); return begun })
	err := awaitSync(ctx, config.Config{MetricsAddress: address}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "nothing has been removed") {
		t.Errorf("error %v", err)
	}
}

func TestWaitsNoLongerThanADrainForAKubeProxyThatSaysNothing(t *testing.T) {
	address := serveMetrics(t, func(int) string { return "" })
	var log strings.Builder
	began := time.Now()
	err := awaitSync(t.Context(), config.Config{MetricsAddress: address, DrainTimeout: 1500 * time.Millisecond}, slog.New(slog.NewTextHandler(&log, nil)))
	if took := time.Since(began); err != nil || took < 1500*time.Millisecond {
		t.Errorf("error %v after %s", err, took)
	}
	for _, part := range []string{"--metrics-bind-address", "404", "all the same"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("no %q in the log:\n%s", part, &log)
		}
	}
}
