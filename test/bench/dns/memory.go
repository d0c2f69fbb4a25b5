package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// footprint is resident memory in MiB.
type footprint struct {
	// sync is the highest mark until the server was ready.
	sync float64
	// steady is what it settled at.
	steady resident
	// relist is the highest mark while everything was listed again.
	relist float64
}

// measureMemory starts a product, lets it settle, and makes it list everything again: the
// API server goes away for a second and comes back with nothing to continue from.
func (b *bench) measureMemory(ctx context.Context, api *apiServer, p product) (f footprint, err error) {
	settings, err := b.settings(api)
	if err != nil {
		return f, err
	}
	server, err := startServer(ctx, p, settings, b.dir, b.serverCore)
	if err != nil {
		return f, err
	}
	defer server.stop()
	first, err := server.memory()
	if err != nil {
		return f, err
	}
	f.sync = first.peak
	if err = pause(ctx, b.settle); err != nil {
		return f, err
	}
	if f.steady, err = server.memory(); err != nil || p.directive == "" {
		return f, err
	}
	if err = server.resetPeak(); err != nil {
		return f, err
	}
	if err = restart(ctx, api); err != nil {
		return f, err
	}
	if err = pause(ctx, b.settle/3); err != nil { // the last objects are being taken in
		return f, err
	}
	again, err := server.memory()
	f.relist = again.peak
	return f, errors.Join(err, b.heapProfile(ctx, server))
}

// heapProfile writes what is in use, if so asked.
func (b *bench) heapProfile(ctx context.Context, s *server) error {
	if s.Profile == 0 {
		return nil
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/heap?gc=1", s.Profile)
	return download(ctx, url, filepath.Join(b.profile, s.name+"-heap.pprof"))
}

// watchedKinds is how many kinds the plugins list: Services, EndpointSlices, Namespaces.
const watchedKinds = 3

func restart(ctx context.Context, api *apiServer) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := api.stop(); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	api.forget()
	if err := api.start(); err != nil {
		return err
	}
	return api.waitLists(ctx, watchedKinds)
}
