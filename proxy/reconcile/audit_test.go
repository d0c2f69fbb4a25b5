package reconcile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// slowToRead is a data plane that takes its time when it is read.
type slowToRead struct {
	*counted
	reading atomic.Int64
}

const (
	perKind   = 20 * time.Millisecond
	perServer = 100 * time.Microsecond
)

func (s *slowToRead) ObserveKind(ctx context.Context, kind plan.Kind) (plan.Plan, error) {
	s.take(perKind)
	return s.counted.ObserveKind(ctx, kind)
}

func (s *slowToRead) ObserveServers(ctx context.Context, servers []plan.Key) (plan.Plan, error) {
	s.take(time.Duration(len(servers)) * perServer)
	return s.counted.ObserveServers(ctx, servers)
}

func (s *slowToRead) take(d time.Duration) {
	s.reading.Add(int64(d))
	time.Sleep(d)
}

func TestAnAuditLetsChangesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const services = 300
		dataplane := &slowToRead{counted: &counted{}}
		f := &fixture{store: state.NewStore(), dataplane: dataplane.counted}
		f.reconciler = New(Options{
			Store: f.store, Dataplane: dataplane, Logger: slog.New(slog.DiscardHandler),
			Context: nodeContext, DrainTimeout: time.Minute, AuditPeriod: auditPeriod,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.reconciler.Run(ctx) }()
		f.commit(func(tx *state.Txn) { cluster(tx, services) })
		for i := range 4000 {
			time.Sleep(97 * time.Millisecond)
			changed := time.Now()
			service := numbered(i % services)
			revision := f.store.Update(changed, func(tx *state.Txn) {
				tx.PutSlice(slice(service, endpointOf(i%services), endpointOf(services+i)))
			}).Revision
			for f.reconciler.Status().Revision < revision {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(changed); took > perKind+auditStep+time.Millisecond {
				t.Fatalf("a change waited %s", took)
			}
		}
		read := time.Duration(dataplane.reading.Load())
		if audits := 6 * (19*perKind + services*perServer); read < audits/2 {
			t.Errorf("%s spent reading: the audits do not come to an end", read)
		}
		if most := 4000 * 97 * time.Millisecond / (auditShare + 1); read > most {
			t.Errorf("%s spent reading, want at most %s", read, most)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A change between the steps of an audit is not taken for what somebody else has done.
func TestAnAuditDuringChangesFindsNothing(t *testing.T) {
	audited(t, func(t *testing.T, f *fixture, _ *bytes.Buffer) {
		services := []*model.Service{web("web", "10.96.0.10"), web("other", "10.96.0.11")}
		for i := range 500 {
			service := services[i%2]
			addresses := []string{"10.244.1.2", "10.244.1.3"}
			f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, addresses[:i/2%3]...)) })
			pass(auditPeriod / 7)
		}
		if got := f.reconciler.Status().Repaired; got != 0 {
			t.Errorf("%d repairs of what nobody else has changed", got)
		}
	})
}

// clearing is a data plane that somebody clears while its real servers are read.
type clearing struct {
	*counted
	clear atomic.Bool
}

func (c *clearing) ObserveServers(ctx context.Context, servers []plan.Key) (plan.Plan, error) {
	if c.clear.Swap(false) {
		for _, server := range servers {
			if err := c.Foreign(plan.Op{Verb: plan.Delete, Key: server}); err != nil {
				return nil, err
			}
		}
	}
	return c.counted.ObserveServers(ctx, servers)
}

func TestVirtualServersThatGoDuringAnAuditReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dataplane := &clearing{counted: &counted{}}
		f := &fixture{store: state.NewStore(), dataplane: dataplane.counted}
		f.reconciler = New(Options{
			Store: f.store, Dataplane: dataplane, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Context: nodeContext, DrainTimeout: time.Minute, AuditPeriod: auditPeriod,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.reconciler.Run(ctx) }()
		service := web("web", "10.96.0.10")
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		dataplane.clear.Store(true)
		pass(auditPeriod + time.Second)
		f.wantPlan(t, "after the audit", served)
		if dataplane.clear.Load() || bytes.Contains(log.Bytes(), []byte("level=ERROR")) {
			t.Errorf("log:\n%s", log.String())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Rounds in which nothing is tried, as when connections are counted, do not put a retry off.
func TestARetryIsNotPutOff(t *testing.T) {
	service := web("web", "10.96.0.10")
	run(t, nil, func(t *testing.T, f *fixture) {
		leaving, refused := realServer("10.96.0.10", "10.244.1.9:8080"), realServer("10.96.0.10", "10.244.1.2:8080")
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.9")); tx.SetSynced() })
		f.dataplane.SetConnections(leaving, 1)
		f.dataplane.Refuse(refused, errors.New("refused"))
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.2")) })
		pass(5500 * time.Millisecond) // tried at once and after 1 and 3 seconds
		f.dataplane.Refuse(refused, nil)
		pass(2 * time.Second)
		observed, err := f.dataplane.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := observed[refused]; got.Weight != 1 || f.reconciler.Status().Draining != 1 {
			t.Errorf("after 7.5 s: %+v, status %+v", got, f.reconciler.Status())
		}
	})
}
