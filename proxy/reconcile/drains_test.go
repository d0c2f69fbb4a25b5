package reconcile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/drain"
	"github.com/mooring-project/mooring/proxy/plan"
)

// shelf keeps a Memory as a file does.
type shelf struct {
	// mu guards what follows.
	mu     sync.Mutex
	memory drain.Memory
	saves  int
	// loading and saving are what goes wrong.
	loading, saving error
}

// Load implements DrainStore.
func (s *shelf) Load() (drain.Memory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory, s.loading
}

// Save implements DrainStore.
func (s *shelf) Save(memory drain.Memory) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	if s.saving == nil {
		s.memory = memory
	}
	return s.saving
}

func (s *shelf) failWith(saving error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saving = saving
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves
}

// copy is what somebody finds who comes after a kill: whatever is saved later is not there.
func (s *shelf) copy() *shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &shelf{memory: s.memory}
}

// startKeeping runs a Reconciler that keeps its drains; stop ends it before the test does.
func startKeeping(t *testing.T, dataplane *counted, drains DrainStore, log *bytes.Buffer) (f *fixture, stop func()) {
	f = &fixture{store: state.NewStore(), dataplane: dataplane}
	f.reconciler = New(Options{
		Store: f.store, Dataplane: dataplane, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Context: nodeContext, DrainTimeout: time.Minute, Drains: drains,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.reconciler.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return f, stop
}

func TestDrainsOutliveTheProcess(t *testing.T) {
	service := web("web", "10.96.0.10")
	leaving := realServer("10.96.0.10", "10.244.1.2:8080")
	synctest.Test(t, func(t *testing.T) {
		dataplane, kept := &counted{}, &shelf{}
		f, stop := startKeeping(t, dataplane, kept, &bytes.Buffer{})
		f.commit(func(tx *state.Txn) {
			tx.PutService(service)
			tx.PutSlice(slice(service, "10.244.1.2", "10.244.1.3"))
			tx.SetSynced()
		})
		dataplane.SetConnections(leaving, 3)
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.3")) })
		began := time.Now()
		pass(20 * time.Second)
		if got := kept.count(); got != 1 {
			t.Errorf("saved %d times, want once", got)
		}
		drains := f.reconciler.Drains()
		if len(drains.Leaving) != 1 || drains.Leaving[0].Key != leaving || drains.Leaving[0].Connections != 3 || drains.Leaving[0].Service != service.Key {
			t.Errorf("drains %+v", drains)
		}
		after := kept.copy()
		stop()
		time.Sleep(10 * time.Second)

		f, _ = startKeeping(t, dataplane, after, &bytes.Buffer{})
		synctest.Wait()
		if drains := f.reconciler.Drains(); len(drains.Leaving) != 1 || !drains.Leaving[0].Deadline.Equal(began.Add(time.Minute)) {
			t.Errorf("resumed %+v, want the deadline %s", drains, began.Add(time.Minute))
		}
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.3")); tx.SetSynced() })
		pass(time.Until(began.Add(59 * time.Second)))
		if got := len(f.reconciler.Drains().Leaving); got != 1 {
			t.Errorf("before the deadline %d are leaving", got)
		}
		pass(2 * time.Second)
		drains = f.reconciler.Drains()
		if len(drains.Leaving) != 0 || len(drains.Left) != 1 || drains.Left[0].Outcome() != "cut" || drains.Left[0].Cut != 3 || !drains.Left[0].Since.Equal(began) {
			t.Errorf("after the deadline %+v", drains)
		}
		pass(time.Second)
		if after.memory.Len() != 0 {
			t.Errorf("kept for nothing: %+v", after.memory)
		}
	})
}

// TestWhatReturnsIsForgotten has the only leaving endpoint come back, after which no drain wakes
// the loop.
func TestWhatReturnsIsForgotten(t *testing.T) {
	service := web("web", "10.96.0.10")
	synctest.Test(t, func(t *testing.T) {
		dataplane, kept := &counted{}, &shelf{}
		f, _ := startKeeping(t, dataplane, kept, &bytes.Buffer{})
		both := slice(service, "10.244.1.2", "10.244.1.3")
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(both); tx.SetSynced() })
		dataplane.SetConnections(realServer("10.96.0.10", "10.244.1.2:8080"), 3)
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.3")) })
		f.commit(func(tx *state.Txn) { tx.PutSlice(both) })
		pass(time.Second)
		if kept.memory.Len() != 0 || len(f.reconciler.Drains().Leaving) != 0 || kept.count() != 2 {
			t.Errorf("kept %d of them, saved %d times; drains %+v", kept.memory.Len(), kept.count(), f.reconciler.Drains())
		}
		pass(time.Hour)
		if got := kept.count(); got != 2 {
			t.Errorf("saved %d times though nothing has changed", got)
		}
	})
}

// TestWhatLeadsToConnectionsIsSavedFirst has the diversion of a second view saved before the
// operations that make it necessary.
func TestWhatLeadsToConnectionsIsSavedFirst(t *testing.T) {
	service := web("web", "10.96.0.10")
	synctest.Test(t, func(t *testing.T) {
		kept, log := &shelf{}, &bytes.Buffer{}
		dataplane := &counted{}
		f, _ := startKeeping(t, dataplane, kept, log)
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		dataplane.SetConnections(realServer("10.96.0.10", "10.244.1.2:8080"), 1)
		dataplane.Refuse(realServer("10.96.0.10", "10.244.1.2:8080"), errors.New("killed here"))
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service)) })
		if kept.memory.Len() != 1 {
			t.Errorf("not saved before it is done: %+v", kept.memory)
		}
	})
}

func TestADiskThatCannotBeWritten(t *testing.T) {
	service := web("web", "10.96.0.10")
	synctest.Test(t, func(t *testing.T) {
		dataplane, log := &counted{}, &bytes.Buffer{}
		kept := &shelf{loading: errors.New("it is damaged")}
		kept.failWith(errors.New("no space left on device"))
		f, _ := startKeeping(t, dataplane, kept, log)
		f.commit(func(tx *state.Txn) {
			tx.PutService(service)
			tx.PutSlice(slice(service, "10.244.1.2", "10.244.1.3"))
			tx.SetSynced()
		})
		dataplane.SetConnections(realServer("10.96.0.10", "10.244.1.2:8080"), 3)
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.3")) })
		pass(20 * time.Second)
		if got := f.reconciler.Drains(); got.Unsaved != 1 || len(got.Leaving) != 1 {
			t.Errorf("drains %+v, want one failure", got)
		}
		kept.failWith(nil)
		pass(11 * time.Second)
		if kept.memory.Len() != 1 {
			t.Error("not saved although it can be now")
		}
		for text, want := range map[string]int{"it is damaged": 1, "no space left": 1, "noted on disk again": 1} {
			if got := strings.Count(log.String(), text); got != want {
				t.Errorf("%q is logged %d times, want %d:\n%s", text, got, want, log)
			}
		}
		if value := func() plan.Value {
			o, _ := dataplane.Observe(t.Context())
			return o[realServer("10.96.0.10", "10.244.1.2:8080")]
		}(); value.Weight != 0 {
			t.Errorf("service has suffered: %v", value)
		}
	})
}
