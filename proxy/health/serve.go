package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// retry is the wait before an address that could not be had is tried again.
const retry = 5 * time.Second

// Listener says where a server listens.
type Listener struct {
	// Address is host:port; empty means no server.
	Address string
	// HardFail makes an error of an address that cannot be had; otherwise it is logged and
	// tried again, as kube-proxy does without bindAddressHardFail.
	HardFail bool
	Logger   *slog.Logger
}

// Serve answers until ctx ends.
func (l Listener) Serve(ctx context.Context, handler http.Handler) error {
	if l.Address == "" {
		return nil
	}
	for {
		err := l.serve(ctx, handler)
		if ctx.Err() != nil {
			return nil
		}
		if l.HardFail {
			return err
		}
		l.Logger.Error("server does not run", "err", err, "retry", retry)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
	}
}

func (l Listener) serve(ctx context.Context, handler http.Handler) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", l.Address)
	if err != nil {
		return fmt.Errorf("server on %s: %w", l.Address, err)
	}
	server := NewHTTP(handler, l.Logger)
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server on %s: %w", l.Address, err)
	}
	return nil
}

// ServerName is what all servers of mooring-proxy say they are.
const ServerName = "mooring-proxy"

// NewHTTP gives a server for short requests from probes.
func NewHTTP(handler http.Handler, logger *slog.Logger) *http.Server {
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", ServerName)
		handler.ServeHTTP(w, r)
	})
	return &http.Server{
		Handler: named, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}
