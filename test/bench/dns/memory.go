package main

import (
	"context"
	"time"
)

// footprint is resident memory in MiB.
type footprint struct {
	// sync is the highest mark until the server was ready; steady what it settled at.
	sync, steady float64
	// relist is the highest mark while everything was listed again.
	relist float64
}

// measureMemory starts a product, lets it settle, and makes it list everything again: the
// API server goes away for a second and comes back with nothing to continue from.
func measureMemory(ctx context.Context, api *apiServer, p product, s settings, dir string, o *options) (f footprint, err error) {
	server, err := startServer(ctx, p, s, dir, o.serverCore)
	if err != nil {
		return f, err
	}
	defer server.stop()
	if _, f.sync, err = server.memory(); err != nil {
		return f, err
	}
	if err = pause(ctx, o.settle); err != nil {
		return f, err
	}
	if f.steady, _, err = server.memory(); err != nil || p.directive == "" {
		return f, err
	}
	if err = server.resetPeak(); err != nil {
		return f, err
	}
	if err = restart(ctx, api); err != nil {
		return f, err
	}
	if err = pause(ctx, o.settle/3); err != nil { // the last objects are being taken in
		return f, err
	}
	_, f.relist, err = server.memory()
	return f, err
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
