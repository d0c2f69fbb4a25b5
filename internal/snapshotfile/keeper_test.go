package snapshotfile

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// log is what a Keeper says.
type log struct {
	// mu guards lines.
	mu    sync.Mutex
	lines bytes.Buffer
}

// Write implements io.Writer.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *log) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.lines.String(), text)
}

func newKeeper(directory string) (*Keeper, *log) {
	said := &log{}
	return &Keeper{
		Path: filepath.Join(directory, "snapshot"), Accept: Acceptance{Identity: identity, MaxAge: 24 * time.Hour},
		Addresses: func(*state.Snapshot) []netip.Addr { return nil }, Contact: time.Now,
		Logger: slog.New(slog.NewTextHandler(said, nil)),
	}, said
}

// run runs a Keeper and gives what ends it.
func run(t *testing.T, k *Keeper, store *state.Store) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.Run(ctx, store); close(done) }()
	return func() { cancel(); <-done }
}

func change(store *state.Store, name string) {
	store.Update(time.Now(), func(tx *state.Txn) {
		tx.PutService(&model.Service{Key: model.ServiceKey{Namespace: "shop", Name: name}})
	})
}

func setSynced(store *state.Store) { store.Update(time.Now(), func(tx *state.Txn) { tx.SetSynced() }) }

// services gives how many Services the file holds, -1 if there is none.
func services(t *testing.T, k *Keeper) int {
	t.Helper()
	contents, err := Read(k.Path)
	if err != nil {
		return -1
	}
	count := 0
	for range state.NewStore().Restore(time.Now(), contents.AsOf, contents.Fill).Services() {
		count++
	}
	return count
}

func TestKeeperWritesChangesAndNotOften(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k, _ := newKeeper(directory)
		store := state.NewStore()
		stop := run(t, k, store)
		expect := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if got := services(t, k); got != want {
				t.Errorf("%s: %d services in the file, want %d", when, got, want)
			}
		}
		change(store, "a")
		time.Sleep(time.Minute)
		expect("before the sync", -1)
		setSynced(store)
		expect("after the sync", 1)
		change(store, "b")
		time.Sleep(leastPause - time.Millisecond)
		change(store, "c")
		expect("just before the pause is over", 1)
		time.Sleep(time.Millisecond)
		expect("after the pause", 3)
		before := k.Status()
		time.Sleep(time.Hour)
		synctest.Wait()
		if after := k.Status(); !after.AsOf.Equal(before.AsOf) || after.Octets == 0 || after.Failures != 0 {
			t.Errorf("written again without a change: %+v, before %+v", after, before)
		}
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if after := k.Status(); time.Since(after.AsOf) > 6*time.Hour {
			t.Errorf("not renewed: %s old", time.Since(after.AsOf))
		}
		time.Sleep(time.Minute)
		change(store, "d")
		synctest.Wait()
		change(store, "e")
		expect("within the pause", 4)
		stop()
		if got := services(t, k); got != 5 {
			t.Errorf("after the end: %d services, want all 5", got)
		}
	})
}

func TestKeeperSurvivesADirectoryThatIsGone(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "later")
	synctest.Test(t, func(t *testing.T) {
		k, said := newKeeper(directory)
		store := state.NewStore()
		defer run(t, k, store)()
		setSynced(store)
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if failures := k.Status().Failures; said.count("is not written") != 1 || failures != 19 {
			t.Errorf("after 9 minutes %d warnings of %d failures, want 1 of 19", said.count("is not written"), failures)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if said.count("is not written") != 2 {
			t.Errorf("after 11 minutes %d warnings, want 2", said.count("is not written"))
		}
		if err := os.Mkdir(directory, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(failedPause)
		synctest.Wait()
		if services(t, k) != 0 || said.count("written again") != 1 {
			t.Errorf("not written again:\n%s", said.lines.String())
		}
	})
}

func TestKeeperRestores(t *testing.T) {
	k, said := newKeeper(t.TempDir())
	store := state.NewStore()
	if k.Restore(store) || store.Load().Usable() || said.count("no snapshot on disk yet") != 1 {
		t.Errorf("restored from nothing:\n%s", said.lines.String())
	}
	change(store, "web")
	setSynced(store)
	k.write(store.Load())

	again, said := newKeeper(filepath.Dir(k.Path))
	store = state.NewStore()
	if !again.Restore(store) || store.Load().Synced || !store.Load().Usable() || said.count("beginning with the snapshot on disk") != 1 {
		t.Errorf("not restored: %+v\n%s", store.Load(), said.lines.String())
	}
	foreign, said := newKeeper(filepath.Dir(k.Path))
	foreign.Accept.Identity.Node = "n2"
	store = state.NewStore()
	if foreign.Restore(store) || store.Load().Usable() || said.count("is refused") != 1 || said.count(k.Path) != 1 || said.count("of the node") != 1 {
		t.Errorf("another node's: %+v\n%s", store.Load(), said.lines.String())
	}
}
