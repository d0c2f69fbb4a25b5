package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/health"
)

const (
	// runsPoll is how often it is looked whether kube-proxy still runs, probeLimit how long it may
	// take to say what it is.
	runsPoll   = time.Second
	probeLimit = 2 * time.Second
	// remind is how often the log says what is waited for.
	remind = time.Minute
)

// awaitEnd waits until kube-proxy does not run on this node any more: two proxies that both put
// the kernel right would undo each other's work.
func awaitEnd(ctx context.Context, c config.Config, logger *slog.Logger) error {
	var told time.Time
	for {
		address, runs := kubeProxyAt(ctx, c)
		if !runs {
			if !told.IsZero() {
				logger.Info("kube-proxy has ended")
			}
			return ctx.Err()
		}
		if time.Since(told) >= remind {
			told = time.Now()
			logger.Warn(stillRuns(address))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(runsPoll):
		}
	}
}

func stillRuns(address string) string {
	return fmt.Sprintf("kube-proxy still runs on this node (%s answers, and is not mooring-proxy's): nothing is done until it has ended; "+
		"take it off the node, for instance by a nodeSelector in its DaemonSet", address)
}

// kubeProxyAt tells whether kube-proxy runs, and at which address it answers. Its process may be
// in a container that cannot be seen from here; its ports are the node's.
func kubeProxyAt(ctx context.Context, c config.Config) (address string, runs bool) {
	addresses := []string{c.HealthzAddress, c.MetricsAddress, "127.0.0.1:10256", "127.0.0.1:10249"}
	slices.Sort(addresses)
	for _, address := range slices.Compact(addresses) {
		if at, err := netip.ParseAddrPort(address); err == nil && isKubeProxy(ctx, reachableAt(at)) {
			return address, true
		}
	}
	return "", false
}

// reachableAt gives an address by which a server that listens on another one can be reached.
func reachableAt(at netip.AddrPort) netip.AddrPort {
	if at.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	return at
}

// isKubeProxy asks who answers at an address. mooring-proxy, which an upgrade may not have ended
// yet, says so; nobody is nobody; and who does not say what it is, is taken for kube-proxy.
func isKubeProxy(ctx context.Context, at netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	response, err := get(ctx, at, "/healthz")
	if err != nil {
		return !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EADDRNOTAVAIL)
	}
	response.Body.Close()
	return response.Header.Get("Server") != health.ServerName
}

// get asks an address of this host. The caller closes the body.
func get(ctx context.Context, at netip.AddrPort, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: new(net.Dialer).DialContext}}
	return client.Do(request)
}
