package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mooring-project/mooring/proxy/config"
)

// awaitSync waits until a kube-proxy that runs on this node has ended its first sync. Until then it
// serves a part of the Services or none, although its /healthz answers 200 from the start
// (ProxyHealthServer.Health in kube-proxy 1.37); its metrics tell the truth. If they cannot be
// had, it waits for as long as connections would get.
func awaitSync(ctx context.Context, c config.Config, logger *slog.Logger) error {
	until, told := time.Now().Add(c.DrainTimeout), time.Time{}
	for {
		address, runs := kubeProxyAt(ctx, c)
		if !runs {
			return ctx.Err()
		}
		synced, err := hasSynced(ctx, c)
		switch {
		case synced:
			return nil
		case ctx.Err() != nil: // below
		case err != nil && !time.Now().Before(until):
			logger.Warn("not known whether kube-proxy has synced: ours is removed all the same", "err", err)
			return nil
		case err != nil && time.Since(told) >= openRemind:
			told = time.Now()
			logger.Warn("not known yet whether kube-proxy, which runs on this node, has synced: waiting; if its metrics are at another address, "+
				"say so by --metrics-bind-address or --config; --drain-timeout says how long to wait", "address", address, "until", until.Format(time.TimeOnly), "err", err)
		case time.Since(told) >= openRemind:
			told = time.Now()
			logger.Info("kube-proxy, which runs on this node, has not synced yet: waiting for it to serve", "address", address)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-proxy has not synced yet, and nothing has been removed: run cleanup again: %w", ctx.Err())
		case <-time.After(runsPoll):
		}
	}
}

// hasSynced asks kube-proxy whether its first sync has ended.
func hasSynced(ctx context.Context, c config.Config) (synced bool, err error) {
	addresses := []string{c.MetricsAddress, "127.0.0.1:10249"}
	slices.Sort(addresses)
	var errs []error
	for _, address := range slices.Compact(addresses) {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			continue // none is served there
		}
		if synced, err = syncedAt(ctx, reachableAt(at)); err == nil {
			return synced, nil
		}
		errs = append(errs, err)
	}
	return false, errors.Join(errs...)
}

func syncedAt(ctx context.Context, at netip.AddrPort) (synced bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	response, err := get(ctx, at, "/metrics")
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false, fmt.Errorf("http://%s/metrics: %s", at, response.Status)
	}
	if synced, err = firstSync(response.Body); err != nil {
		err = fmt.Errorf("http://%s/metrics: %w", at, err)
	}
	return synced, err
}

// kube-proxy's metrics of when it last ended a sync, and when it last was to begin one: its start
// counts. Each has a sample for each address family.
const (
	lastSync   = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
	lastQueued = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"
)

// firstSync tells by kube-proxy's metrics whether each address family that it serves has been synced.
func firstSync(metrics io.Reader) (synced bool, err error) {
	isKubeProxy, ended, families := false, map[string]bool{}, []string{}
	lines := bufio.NewScanner(metrics)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		sample, value, _ := strings.Cut(lines.Text(), " ")
		name, family, _ := strings.Cut(sample, "{")
		isKubeProxy = isKubeProxy || strings.HasPrefix(name, "kubeproxy_")
		switch {
		case value == "0":
		case name == lastSync:
			ended[family] = true
		case name == lastQueued:
			families = append(families, family)
		}
	}
	switch {
	case lines.Err() != nil:
		return false, lines.Err()
	case !isKubeProxy:
		return false, errors.New("they are not kube-proxy's")
	}
	synced = len(families) > 0 && !slices.ContainsFunc(families, func(family string) bool { return !ended[family] })
	return synced, nil
}
