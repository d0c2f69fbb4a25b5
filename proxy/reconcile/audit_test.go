package reconcile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
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
	perServer time.Duration
	reading   atomic.Int64
}

const (
	perPart   = 2 * time.Millisecond // of three elements, in the fake
	perServer = 100 * time.Microsecond
)

func (s *slowToRead) ObservePart(ctx context.Context, kind plan.Kind, first bool) (plan.Plan, bool, error) {
	s.take(perPart)
	return s.counted.ObservePart(ctx, kind, first)
}

func (s *slowToRead) ObserveElements(ctx context.Context, elements []plan.Key) (plan.Plan, error) {
	s.take(perPart)
	return s.counted.ObserveElements(ctx, elements)
}

func (s *slowToRead) ObserveServers(ctx context.Context, servers []plan.Key) (plan.Plan, error) {
	s.take(time.Duration(len(servers)) * s.perServer)
	return s.counted.ObserveServers(ctx, servers)
}

func (s *slowToRead) take(d time.Duration) {
	s.reading.Add(int64(d))
	time.Sleep(d)
}

// listens is a Watch that hears nothing.
func listens(ctx context.Context, _ func(string)) error { <-ctx.Done(); return nil }

func TestAnAuditLetsChangesGoFirst(t *testing.T) {
	const (
		services = 300
		servers  = services * perServer
		// owned, divert, masquerade and hairpin
		elements = 4 * services / 3 * perPart
	)
	for _, c := range []struct {
		name  string
		watch func(context.Context, func(string)) error
		// longest is the longest step, reads what an audit reads.
		longest, reads time.Duration
	}{
		{"of what is not announced: a batch of servers", listens, auditServers * perServer, servers},
		{"of everything: a part of a set", nil, perPart, elements + servers},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dataplane := &slowToRead{counted: &counted{}, perServer: perServer}
				f := startWith(t, dataplane.counted, Options{
					Dataplane: dataplane, Logger: slog.New(slog.DiscardHandler), AuditPeriod: auditPeriod, Watch: c.watch,
				})
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
					if took := time.Since(changed); took > c.longest+auditStep+time.Millisecond {
						t.Fatalf("a change waited %s", took)
					}
				}
				read := time.Duration(dataplane.reading.Load())
				if read < 6*c.reads/2 {
					t.Errorf("%s spent reading: the audits do not come to an end", read)
				}
				if most := 4000 * 97 * time.Millisecond / (auditShare + 1); read > most {
					t.Errorf("%s spent reading, want at most %s", read, most)
				}
			})
		})
	}
}

// What another software serves at a place that was ours when an audit began is not ours.
func TestAnAuditLeavesAloneWhatHasBecomeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const services = 300
		dataplane := &slowToRead{counted: &counted{}, perServer: auditStep}
		f := startWith(t, dataplane.counted, Options{
			Dataplane: dataplane, Logger: slog.New(slog.DiscardHandler), AuditPeriod: auditPeriod, Watch: listens,
		})
		f.commit(func(tx *state.Txn) { cluster(tx, services) })
		time.Sleep(auditPeriod + 2*auditServers*auditStep) // the first step has been made
		f.commit(func(tx *state.Txn) {
			for i := range services {
				tx.DeleteService(numbered(i).Key)
				tx.DeleteSlice("default", numbered(i).Key.Name)
			}
		})
		pass(2 * drainPoll) // their endpoints have left
		theirs := plan.Plan{}
		for i := range services {
			server := realServer(numbered(i).ClusterIPs[0].String(), "192.0.2.1:8080")
			theirs[server], theirs[server.VirtualServerKey()] = plan.Value{Weight: 3}, plan.Value{Scheduler: "lc"}
		}
		f.harm(t, plan.Diff(nil, theirs)...)
		pass(auditPeriod)
		kept, err := f.dataplane.ObserveServers(t.Context(), slices.Collect(maps.Keys(theirs)))
		if repaired, changed := f.reconciler.Status().Repaired, len(plan.Diff(theirs, kept)); err != nil || repaired != 0 || changed != 0 {
			t.Errorf("%d objects repaired, %d changed, error %v", repaired, changed, err)
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

// mistaken is a data plane whose sets are changed while they are listed: elements are missing from the lists,
// come twice, come though they have gone, and with another value than they have.
type mistaken struct {
	*counted
	random *rand.Rand
	before plan.Plan
}

func (m *mistaken) ObservePart(ctx context.Context, kind plan.Kind, first bool) (plan.Plan, bool, error) {
	part, more, err := m.counted.ObservePart(ctx, kind, first)
	last := m.before
	m.before = maps.Clone(part)
	for _, key := range slices.SortedFunc(maps.Keys(part), plan.Key.Compare) {
		value := part[key]
		switch m.random.IntN(4) {
		case 0:
			delete(part, key)
		case 1:
			value.Mark++
			part[key] = value
		case 2:
			key.Port++
			part[key] = value
		}
	}
	for key, value := range last {
		if key.Kind == kind {
			part[key] = value
		}
	}
	return part, more, err
}

// What a list says of a set that changes meanwhile is not believed, but looked at.
func TestAnAuditLooksAgain(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("MOORING_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MOORING_SEED: %v", err)
		}
	}
	t.Logf("repeat with MOORING_SEED=%d", seed)
	synctest.Test(t, func(t *testing.T) {
		const services = 100
		dataplane := &mistaken{counted: &counted{}, random: rand.New(rand.NewPCG(seed, seed))}
		f := startWith(t, dataplane.counted, Options{
			Dataplane: dataplane, Logger: slog.New(slog.DiscardHandler), AuditPeriod: auditPeriod,
		})
		f.commit(func(tx *state.Txn) { cluster(tx, services) })
		f.dataplane.take()
		pass(5 * auditPeriod)
		if ops := f.dataplane.take(); len(ops) != 0 || f.reconciler.Status().Repaired != 0 {
			t.Errorf("%d operations, %d objects repaired, and nobody has done anything", len(ops), f.reconciler.Status().Repaired)
		}
		whole := f.observe(t)
		var harm []plan.Op
		for i := range 10 {
			key := realServer(numbered(i).ClusterIPs[0].String(), "192.0.2.1:80").VirtualServerKey()
			key.Kind = plan.Divert
			harm = append(harm, plan.Op{Verb: plan.Delete, Key: key})
			key.Port += 1000
			harm = append(harm, plan.Op{Verb: plan.Add, Key: key})
		}
		f.harm(t, harm...)
		pass(10 * auditPeriod) // a list may be mistaken of the same element several times
		if got := f.reconciler.Status().Repaired; got != len(harm) {
			t.Errorf("%d objects repaired, want %d", got, len(harm))
		}
		if changed := plan.Diff(f.observe(t), whole); len(changed) != 0 {
			t.Errorf("not whole again: %v", changed)
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
		f := startWith(t, dataplane.counted, Options{
			Dataplane: dataplane, Logger: slog.New(slog.NewTextHandler(&log, nil)), AuditPeriod: auditPeriod,
		})
		service := web("web", "10.96.0.10")
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		dataplane.clear.Store(true)
		pass(auditPeriod + time.Second)
		f.wantPlan(t, "after the audit", served)
		if dataplane.clear.Load() || bytes.Contains(log.Bytes(), []byte("level=ERROR")) {
			t.Errorf("log:\n%s", log.String())
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
