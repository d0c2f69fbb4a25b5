package snapshotfile

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/mooring-project/mooring/internal/atomicfile"
	"github.com/mooring-project/mooring/internal/state"
)

const (
	// leastPause is the least time between two writes, octetsPerSecond bounds what is written on
	// average: 2.8 GB a day, whatever the size of the cluster and however busy it is.
	leastPause      = 5 * time.Second
	octetsPerSecond = 32 << 10
	// failedPause is the wait after a write that went wrong, and complainAgain how often that is
	// told.
	failedPause   = 30 * time.Second
	complainAgain = 10 * time.Minute
	// renewals is how many times within MaxAge a file is written again though nothing has changed,
	// to say that it still holds.
	renewals = 4
)

// A Keeper keeps the file of one Store: it begins with what the file holds, and then writes what
// the Store holds. Status may be called at any time from any goroutine.
type Keeper struct {
	// Path is the file. Its directory has to exist.
	Path string
	// Accept says what the file must be like to be begun with, and is what it is written as.
	Accept Acceptance
	// Addresses gives those by which a file is to know the node; nil if they do not matter.
	Addresses func(*state.Snapshot) []netip.Addr
	// Contact gives the time at which all objects were last known to be current.
	Contact func() time.Time
	Logger  *slog.Logger

	// mu guards status.
	mu     sync.Mutex
	status Status

	// written is the revision that the file holds, and asOf its time.
	written uint64
	asOf    time.Time
	// complained is when the last failure was told; zero once a write has gone well.
	complained time.Time
}

// Status is how a file does.
type Status struct {
	// AsOf is the time as of which the file holds the objects; zero if there is no good file.
	AsOf time.Time
	// Octets is the file's size.
	Octets int64
	// Failures counts the writes that went wrong.
	Failures uint64
}

// Status gives how the file does.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Restore fills a Store from the file, if there is one that may be used, and tells whether it did.
// To be called before a source fills the Store.
func (k *Keeper) Restore(store *state.Store) bool {
	now := time.Now()
	contents, err := Read(k.Path)
	if err == nil {
		err = k.Accept.Check(&contents.Header, now)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.Logger.Info("no snapshot on disk yet", "file", k.Path)
		return false
	case err != nil:
		k.Logger.Warn("the snapshot on disk is refused; nothing is known before the API server has been reached", "file", k.Path, "why", err)
		return false
	}
	store.Restore(now, contents.AsOf, contents.Fill)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.AsOf = contents.AsOf
	k.Logger.Info("beginning with the snapshot on disk until the API server has been reached", "file", k.Path,
		"age", now.Sub(contents.AsOf).Round(time.Second), "objects", len(contents.objects))
	return true
}

// Run writes the Store's snapshots until ctx ends, and then the last one. Nothing is written
// before the first sync, and nothing twice.
func (k *Keeper) Run(ctx context.Context, store *state.Store) {
	atomicfile.RemoveLeftovers(k.Path, time.Now())
	restored := !store.Load().Restored.IsZero()
	for ctx.Err() == nil {
		snapshot := store.Load()
		if restored && snapshot.Synced {
			restored = false
			k.Logger.Info("the API server has been reached; the snapshot on disk is not needed any more")
		}
		if k.due(snapshot) {
			wait(ctx, nil, k.write(snapshot))
			continue
		}
		wait(ctx, snapshot.Superseded(), k.renewal())
	}
	if last := store.Load(); k.due(last) {
		k.write(last)
	}
}

// due tells whether a snapshot is worth a write.
func (k *Keeper) due(snapshot *state.Snapshot) bool {
	if !snapshot.Synced {
		return false
	}
	return snapshot.Revision != k.written || k.renewal() > 0 && k.Contact().Sub(k.asOf) >= k.renewal()
}

// renewal is the age from which a file is written again though nothing has changed; 0 for never.
func (k *Keeper) renewal() time.Duration { return k.Accept.MaxAge / renewals }

// wait returns when ctx ends, when changed is closed, or when time is up; 0 is no time limit.
func wait(ctx context.Context, changed <-chan struct{}, limit time.Duration) {
	var up <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		up = timer.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-up:
	}
}

// write writes a snapshot and gives the pause before the next write.
func (k *Keeper) write(snapshot *state.Snapshot) (pause time.Duration) {
	header := Header{AsOf: k.Contact(), Identity: k.Accept.Identity}
	if k.Addresses != nil {
		for _, addr := range k.Addresses(snapshot) {
			header.Addresses = append(header.Addresses, addr.String())
		}
	}
	octets, err := Write(k.Path, header, snapshot)
	now := time.Now()
	if err != nil {
		k.fail(err, now)
		return failedPause
	}
	if !k.complained.IsZero() {
		k.Logger.Info("the snapshot on disk is written again", "file", k.Path)
	}
	k.written, k.asOf, k.complained = snapshot.Revision, header.AsOf, time.Time{}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.AsOf, k.status.Octets = header.AsOf, octets
	return max(leastPause, time.Duration(octets)*time.Second/octetsPerSecond)
}

// fail counts a failure and tells it now and then.
func (k *Keeper) fail(err error, now time.Time) {
	k.mu.Lock()
	k.status.Failures++
	k.mu.Unlock()
	if !k.complained.IsZero() && now.Sub(k.complained) < complainAgain {
		return
	}
	k.complained = now
	k.Logger.Warn("the snapshot on disk is not written; service goes on, but a start without the API server would begin with older data or none: see to room and rights in its directory",
		"file", k.Path, "err", err)
}
