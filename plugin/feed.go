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

	// keepings are the files to begin with and to write.
	keepings []keeping

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
	patience := f.restore()
	for _, k := range f.keepings {
		f.running.Go(func() { k.Run(ctx, k.store) })
	}
	for _, s := range f.sources {
		f.running.Go(func() { s.run(ctx) })
	}
	f.running.Go(func() { f.follow(ctx) })
	if !f.waitSynced(patience) {
		log.Warningf("serving before all objects are listed: %s passed", patience)
	}
}

// restore fills the stores from the files, and gives how long to wait for the sources then.
func (f *feed) restore() time.Duration {
	restored := 0
	for _, k := range f.keepings {
		if k.Restore(k.store) {
			restored++
		}
	}
	if restored > 0 && restored == len(f.sources) {
		return min(f.patience, restoredPatience)
	}
	return f.patience
}

func (s feeding) run(ctx context.Context) {
	if err := s.Run(ctx, s.store); err != nil && !errors.Is(err, context.Canceled) {
		log.Errorf("source: %s", err)
	}
}

// waitSynced waits for all stores, as long as the patience lasts.
func (f *feed) waitSynced(patience time.Duration) bool {
	timeout := time.NewTimer(patience)
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
