package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/dataplane/fake"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// ailing is a kernel whose next exchange goes wrong.
type ailing struct {
	*fake.Dataplane
	next atomic.Pointer[error]
}

func (a *ailing) fail(err error) { a.next.Store(&err) }

func (a *ailing) take() error {
	if err := a.next.Swap(nil); err != nil {
		return *err
	}
	return nil
}

func (a *ailing) Apply(ctx context.Context, ops []plan.Op) ([]plan.Op, error) {
	if err := a.take(); err != nil {
		return nil, err
	}
	return a.Dataplane.Apply(ctx, ops)
}

func (a *ailing) ObservePart(ctx context.Context, kind plan.Kind, first bool) (plan.Plan, bool, error) {
	if err := a.take(); err != nil {
		return nil, false, err
	}
	return a.Dataplane.ObservePart(ctx, kind, first)
}

// TestWhatGoesWrongWithTheKernelIsCountedAndTriedAgain has exchanges fail, of a change and of the audit,
// as the kernel has them fail.
func TestWhatGoesWrongWithTheKernelIsCountedAndTriedAgain(t *testing.T) {
	for _, test := range []struct {
		name, kind string
		err        error
	}{
		{"the socket's queue overflows", "queue overrun", os.NewSyscallError("recvfrom", syscall.ENOBUFS)},
		{"no answer by IPVS", "no answer", fmt.Errorf("%w after 5s", dataplane.ErrTimeout)},
		{"no answer by nftables", "no answer", fmt.Errorf("nft: %w", os.ErrDeadlineExceeded)},
		{"a dump that others interrupt again and again", "interrupted", fmt.Errorf("list: %w", dataplane.ErrInterrupted)},
		{"a signal", "interrupted", os.NewSyscallError("poll", syscall.EINTR)},
		{"the kernel has no memory", "no memory", errors.Join(errors.New("first"), syscall.ENOMEM)},
		{"a table of the kernel is full", "table full", syscall.ENOSPC},
		{"no file descriptor is left", "table full", os.NewSyscallError("socket", syscall.EMFILE)},
		{"a right is missing", "not allowed", fmt.Errorf("%w (%w)", dataplane.ErrPermission, os.ErrPermission)},
		{"anything else", "other", syscall.EIO},
	} {
		t.Run(test.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { countAndTryAgain(t, test.kind, test.err) }) })
	}
}

func countAndTryAgain(t *testing.T, kind string, failure error) {
	kernel := &ailing{Dataplane: &fake.Dataplane{}}
	counted, store := newFailures(kernel), state.NewStore()
	loop := reconcile.New(reconcile.Options{
		Store: store, Dataplane: counted, Logger: slog.New(slog.DiscardHandler), DrainTimeout: time.Minute, AuditPeriod: time.Minute,
		Context: plan.Context{Place: policy.Place{Node: "node-1"}, Scheduler: "rr"},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- loop.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the loop ended: %v", err)
		}
	}()
	service := localService(0, "10.96.0.10")
	synctest.Wait()
	kernel.fail(failure)
	store.Update(time.Now(), func(tx *state.Txn) {
		tx.PutService(service)
		tx.PutSlice(localSlice(endpoint("10.244.1.2", "node-1", true, true, false)))
		tx.SetSynced()
	})
	synctest.Wait()
	if got := counted.Counts()[kind]; got != 1 {
		t.Errorf("counted %v, want one of %q", counted.Counts(), kind)
	}
	time.Sleep(3 * time.Second)
	synctest.Wait()
	if status := loop.Status(); status.Err != nil || !status.PendingSince.IsZero() || status.Objects[plan.VirtualServer] == 0 {
		t.Errorf("after the retry: %+v", status)
	}
	kernel.fail(failure) // of the next audit
	time.Sleep(3 * time.Minute)
	synctest.Wait()
	if got := counted.Counts()[kind]; got != 2 {
		t.Errorf("after the audit: counted %v, want two of %q", counted.Counts(), kind)
	}
	if status := loop.Status(); status.Repaired != 0 {
		t.Errorf("an audit that failed has repaired %d objects", status.Repaired)
	}
}
