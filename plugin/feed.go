package mooring

import (
	"context"
	"errors"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/mooring-project/mooring/internal/state"
)

var log = clog.NewWithPlugin(pluginName)

// source fills a Store until its context ends; internal/watch has them.
type source interface {
	Run(ctx context.Context, store *state.Store) error
}

// feed keeps a source running between start and stop.
type feed struct {
	source source
	store  *state.Store
	// patience is how long start waits for the first complete list.
	patience time.Duration

	// follow runs beside the source until its context ends.
	follow func(ctx context.Context)

	cancel  context.CancelFunc
	done    chan struct{}
	running sync.WaitGroup
}

// start runs the source and waits until all objects are listed, but no longer than
// the patience allows: a server that answers SERVFAIL is better than none, and other
// zones may be served.
func (f *feed) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel, f.done = cancel, make(chan struct{})
	f.running.Go(func() { f.run(ctx) })
	f.running.Go(func() { f.follow(ctx) })
	if !f.waitSynced() {
		log.Warningf("serving before all objects are listed: %s passed", f.patience)
	}
}

func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	if err := f.source.Run(ctx, f.store); err != nil && !errors.Is(err, context.Canceled) {
		log.Errorf("source: %s", err)
	}
}

func (f *feed) waitSynced() bool {
	timeout := time.NewTimer(f.patience)
	defer timeout.Stop()
	for {
		snap := f.store.Load()
		if snap.Synced {
			return true
		}
		select {
		case <-snap.Superseded():
		case <-f.done:
			return f.store.Load().Synced
		case <-timeout.C:
			return false
		}
	}
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
