package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/health"
)

// listener gives one that whatever is to answer can be served on.
func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestWhoIsKubeProxy(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	for _, test := range []struct {
		name  string
		serve func(net.Listener)
		want  bool
	}{
		{"nobody", func(l net.Listener) { l.Close() }, false},
		{"kube-proxy", func(l net.Listener) { (&http.Server{Handler: ok, ReadHeaderTimeout: time.Second}).Serve(l) }, true},   //nolint:errcheck // ends with the listener
		{"mooring-proxy that is being replaced", func(l net.Listener) { health.NewHTTP(ok, slog.Default()).Serve(l) }, false}, //nolint:errcheck // as above
		{"somebody who says nothing", func(net.Listener) {}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := listener(t)
			if test.name == "nobody" {
				test.serve(l)
			} else {
				go test.serve(l)
			}
			at := l.Addr().(*net.TCPAddr).AddrPort()
			if got := isKubeProxy(t.Context(), at); got != test.want {
				t.Errorf("is kube-proxy: %t", got)
			}
			// Its usual addresses are asked as well as those that we are to have.
			address, runs := kubeProxyAt(t.Context(), config.Config{HealthzAddress: strings.Replace(at.String(), "127.0.0.1", "0.0.0.0", 1)})
			if runs != test.want || runs && !strings.HasPrefix(address, "0.0.0.0:") {
				t.Errorf("runs: %t at %q", runs, address)
			}
		})
	}
}

func TestWaitsUntilKubeProxyHasEnded(t *testing.T) {
	l := listener(t)
	var asked atomic.Int32
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })}
	go server.Serve(l) //nolint:errcheck // ends with the server
	var log strings.Builder
	done := make(chan error, 1)
	go func() {
		done <- awaitEnd(t.Context(), config.Config{MetricsAddress: l.Addr().String()}, slog.New(slog.NewTextHandler(&log, nil)))
	}()
	for asked.Load() < 2 {
		select {
		case err := <-done:
			t.Fatalf("has not waited: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	server.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "kube-proxy still runs") != 1 || !strings.Contains(text, "has ended") {
		t.Errorf("log:\n%s", text)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if awaitEnd(ended, config.Config{}, slog.Default()) == nil {
		t.Error("no error when it was told to end")
	}
}
