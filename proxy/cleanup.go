package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
)

const (
	// openPoll is how often it is looked whether connections have ended.
	openPoll = 200 * time.Millisecond
	// openRemind is how often the log says what is waited for.
	openRemind = 30 * time.Second
)

// Cleanup removes everything of ours from the kernel. Where kube-proxy runs again, it is to serve first,
// and connections that would be cut get the time of a drain to end; those of a trial beside it, which
// nobody leads afterwards, do not.
func Cleanup(ctx context.Context, c config.Config, logger *slog.Logger) error {
	kernel, err := dataplane.Open(dataplaneOptions(c, logger))
	if err != nil {
		return err
	}
	defer kernel.Close()
	if c.ServiceProxyName == "" {
		if err := awaitSync(ctx, c, logger); err != nil {
			return err
		}
		leading, err := kernel.Retire(ctx)
		if err != nil {
			return err
		}
		if err := awaitConnections(ctx, kernel, leading, c.DrainTimeout, logger); err != nil {
			return err
		}
	}
	return kernel.Cleanup(ctx)
}

// awaitConnections waits until some virtual servers lead no connection, or for as long as an endpoint
// that leaves may keep its own.
func awaitConnections(ctx context.Context, kernel *dataplane.Kernel, leading []plan.Key, limit time.Duration, logger *slog.Logger) error {
	until, told := time.Now().Add(limit), time.Time{}
	for {
		open, err := kernel.Open(ctx, leading)
		switch {
		case err != nil || open == 0:
			return err
		case !time.Now().Before(until):
			logger.Warn("connections are cut", "connections", open)
			return nil
		case time.Since(told) >= openRemind:
			told = time.Now()
			logger.Info("connections of ours are left that kube-proxy does not lead: waiting for their end; --drain-timeout says for how long",
				"connections", open, "until", until.Format(time.TimeOnly))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d connections of ours are left, and nothing has been removed: run cleanup again: %w", open, ctx.Err())
		case <-time.After(openPoll):
		}
	}
}
