package mooring

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slowSource is synced after a while.
type slowSource struct{ after time.Duration }

func (s slowSource) Run(ctx context.Context, store *state.Store) error {
	select {
	case <-time.After(s.after):
		store.Update(time.Now(), (*state.Txn).SetSynced)
	case <-ctx.Done():
		return nil
	}
	<-ctx.Done()
	return nil
}

func (slowSource) Status() []watch.KindStatus { return nil }

func newFeed(patience time.Duration, syncs ...time.Duration) (*feed, []*state.Store) {
	f := &feed{patience: patience, follow: func(ctx context.Context) { <-ctx.Done() }}
	var stores []*state.Store
	for _, after := range syncs {
		store := state.NewIndexedStore()
		stores = append(stores, store)
		f.sources = append(f.sources, feeding{slowSource{after}, store})
	}
	return f, stores
}

func TestStartWaitsForTheSync(t *testing.T) {
	for name, test := range map[string]struct {
		syncs  []time.Duration
		waited time.Duration
		synced bool
	}{
		"one source":                 {[]time.Duration{2 * time.Second}, 2 * time.Second, true},
		"the slower of two":          {[]time.Duration{time.Second, 3 * time.Second}, 3 * time.Second, true},
		"no longer than the timeout": {[]time.Duration{time.Hour}, 5 * time.Second, false},
		"both share the timeout":     {[]time.Duration{4 * time.Second, time.Hour}, 5 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, stores := newFeed(5*time.Second, test.syncs...)
				begin := time.Now()
				f.start()
				if waited := time.Since(begin); waited != test.waited {
					t.Errorf("waited %s, want %s", waited, test.waited)
				}
				if got := stores[len(stores)-1].Load().Synced; got != test.synced {
					t.Errorf("synced: %v, want %v", got, test.synced)
				}
				if err := f.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestStopWithoutStart(t *testing.T) {
	f, _ := newFeed(time.Second, time.Second)
	if err := f.stop(); err != nil {
		t.Error(err)
	}
}

func TestSnapshotsAreWatchedUntilTheEnd(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local {\nstale_after 2m\n}")
	synctest.Test(t, func(t *testing.T) {
		m.Store = state.NewIndexedStore() // its channels belong to this bubble
		source := &silentSource{since: time.Now()}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { m.watchSnapshots(ctx, []feeding{{source, m.Store}}); close(done) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if m.stale.Load() != nil {
			t.Error("stale after a minute")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if m.stale.Load() == nil {
			t.Error("fresh after three minutes of silence")
		}
		cancel()
		<-done
	})
}

// silentSource was heard of once.
type silentSource struct {
	slowSource
	since time.Time
}

func (s *silentSource) Status() []watch.KindStatus {
	return []watch.KindStatus{{Kind: "services", Listed: s.since, Contact: s.since}}
}
