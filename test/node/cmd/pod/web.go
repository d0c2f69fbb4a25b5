package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// serveWeb answers every request with the pod's name, until it is told to end, and then finishes
// what it has.
func serveWeb(ctx context.Context, address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return serve(ctx, address, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) })
}

func serve(ctx context.Context, address string, handler http.HandlerFunc) error {
	server := &http.Server{Addr: address, ReadHeaderTimeout: 10 * time.Second, Handler: handler}
	finished := make(chan error, 1)
	go func() {
		<-ctx.Done()
		finished <- server.Shutdown(context.WithoutCancel(ctx))
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-finished
}
