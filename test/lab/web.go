package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// ServeWeb is the web server in the lab's pods: it answers every request with its host
// name, which is the pod's name, until the end of ctx, and then finishes what it has.
func ServeWeb(ctx context.Context, address string) error {
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	server := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, name)
		}),
	}
	finished := make(chan error, 1)
	go func() {
		<-ctx.Done()
		finished <- server.Shutdown(context.WithoutCancel(ctx))
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("web: %w", err)
	}
	return <-finished
}
