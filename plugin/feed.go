package mooring

import (
	"context"
	"errors"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
)

var log = clog.NewWithPlugin(pluginName)

// feeding is a source and the store it fills.
type feeding struct {
	watch.Source
	store *state.Store
}

// feed keeps sources running between start and stop.
type feed struct {
	sources []feeding
	// patience is how long start waits for the first complete list.
	patience time.Duration

	// follow runs beside the source until its context ends.
	follow func(ctx context.Context)

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// start runs the sources and waits until all objects are listed, but no longer than
// the patience allows: a server that answers SERVFAIL is better than none, and other
// zones may be served.
func (f *feed) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	for _, s := range f.sources {
		f.running.Go(func() { s.run(ctx) })
	}
	f.running.Go(func() { f.follow(ctx) })
	if !f.waitSynced() {
		log.Warningf("serving before all objects are listed: %s passed", f.patience)
	}
}

func (s feeding) run(ctx context.Context) {
	if err := s.Run(ctx, s.store); err != nil && !errors.Is(err, context.Canceled) {
		log.Errorf("source: %s", err)
	}
}

// waitSynced waits for all stores, as long as the patience lasts.
func (f *feed) waitSynced() bool {
	timeout := time.NewTimer(f.patience)
	defer timeout.Stop()
	for _, s := range f.sources {
		for snap := s.store.Load(); !snap.Synced; snap = s.store.Load() {
			select {
			case <-snap.Superseded():
			case <-timeout.C:
				return false
			}
		}
	}
	return true
}

// stop ends what start began and returns when all of it has ended. Stopping a feed that was never
// started does nothing.
func (f *feed) stop() error {
	if f.cancel == nil {
		return nil
	}
	f.cancel()
	f.running.Wait()
	return nil
}
