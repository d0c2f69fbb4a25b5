package reconcile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

const auditPeriod = time.Minute

// audited runs a Reconciler that audits and logs.
func audited(t *testing.T, play func(t *testing.T, f *fixture, log *bytes.Buffer)) {
	t.Helper()
	auditedAs(t, nil, play)
}

// auditedAs has it listen to signs.
func auditedAs(t *testing.T, watch func(context.Context, func(string)) error, play func(t *testing.T, f *fixture, log *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := &fixture{store: state.NewStore(), dataplane: &counted{}}
		f.reconciler = New(Options{
			Store: f.store, Dataplane: f.dataplane, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Context: nodeContext, DrainTimeout: time.Hour, AuditPeriod: auditPeriod, Watch: watch,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.reconciler.Run(ctx) }()
		service := web("web", "10.96.0.10")
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		f.wantPlan(t, "serving", served)
		f.dataplane.take()
		play(t, f, &log)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// harm changes the data plane behind the loop's back.
func (f *fixture) harm(t *testing.T, ops ...plan.Op) {
	t.Helper()
	for _, op := range ops {
		if err := f.dataplane.Foreign(op); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDriftIsPutRight(t *testing.T) {
	server := realServer("10.96.0.10", "10.244.1.2:8080")
	virtual := server.VirtualServerKey()
	stranger := realServer("10.96.0.10", "192.0.2.1:80")
	for _, c := range []struct {
		name string
		harm []plan.Op
	}{
		{"a real server is deleted", []plan.Op{{Verb: plan.Delete, Key: server}}},
		{"its weight is changed", []plan.Op{{Verb: plan.Update, Key: server, Value: plan.Value{Weight: 7}}}},
		{"one is added", []plan.Op{{Verb: plan.Add, Key: stranger, Value: plan.Value{Weight: 1}}}},
		{"a virtual server is deleted", []plan.Op{{Verb: plan.Delete, Key: virtual}}},
		{"it has another scheduler", []plan.Op{{Verb: plan.Update, Key: virtual, Value: plan.Value{Scheduler: "lc"}}}},
		{"the record that it is ours is deleted too", []plan.Op{{Verb: plan.Delete, Key: virtual}, {Verb: plan.Delete, Key: virtual.OwnedKey()}}},
		{"an element of a set is deleted", []plan.Op{{Verb: plan.Delete, Key: plan.Key{
			Kind: plan.Divert, Protocol: virtual.Protocol, Port: virtual.Port, Addr: virtual.Addr,
		}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			audited(t, func(t *testing.T, f *fixture, log *bytes.Buffer) {
				f.harm(t, c.harm...)
				pass(auditPeriod)
				// A real server that was added leaves as every other one does.
				if text, _ := f.dataplane.Observe(t.Context()); text[stranger] != (plan.Value{}) {
					t.Errorf("%s has weight %d", stranger, text[stranger].Weight)
				}
				pass(2 * time.Second)
				f.wantPlan(t, "after the audit", served)
				if got := f.reconciler.Status().Repaired; got == 0 {
					t.Error("the status counts nothing")
				}
				if lines := strings.Count(log.String(), "somebody else has changed"); lines != 1 {
					t.Errorf("%d lines, want 1:\n%s", lines, log)
				}
			})
		})
	}
}

func TestASignOfDriftIsFollowedAtOnce(t *testing.T) {
	audited(t, func(t *testing.T, f *fixture, _ *bytes.Buffer) {
		f.harm(t, plan.Op{Verb: plan.Delete, Key: realServer("10.96.0.10", "10.244.1.2:8080")})
		f.reconciler.Drifted("nftables")
		f.reconciler.Drifted("routes") // before the first has been followed
		synctest.Wait()
		f.wantPlan(t, "after the sign", served)
	})
}

func TestWhatTheKernelAnnouncesIsAuditedMoreRarely(t *testing.T) {
	virtual := realServer("10.96.0.10", "10.244.1.2:8080").VirtualServerKey()
	divert := virtual
	divert.Kind = plan.Divert
	deaf := func(context.Context, func(string)) error { return errors.New("no monitor") }
	for _, c := range []struct {
		name  string
		watch func(context.Context, func(string)) error
		harm  plan.Op
		// audits is how many periods pass until it is put right; objects are what is counted then.
		audits, objects int
	}{
		{"a virtual server, of which nothing is announced", listens, plan.Op{Verb: plan.Delete, Key: virtual}, 1, 2},
		{"its scheduler", listens, plan.Op{Verb: plan.Update, Key: virtual, Value: plan.Value{Scheduler: "lc"}}, 1, 1},
		{"a virtual server by the audit of everything", nil, plan.Op{Verb: plan.Delete, Key: virtual}, 1, 2},
		{"an element, though the announcement was lost", listens, plan.Op{Verb: plan.Delete, Key: divert}, auditAll, 1},
		{"an element that nobody listens for", nil, plan.Op{Verb: plan.Delete, Key: divert}, 1, 1},
		{"an element when listening has failed", deaf, plan.Op{Verb: plan.Delete, Key: divert}, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			auditedAs(t, c.watch, func(t *testing.T, f *fixture, _ *bytes.Buffer) {
				f.harm(t, c.harm)
				for audits := 1; audits <= auditAll; audits++ {
					pass(auditPeriod + time.Second)
					if f.reconciler.Status().Repaired == 0 {
						continue
					}
					if got := f.reconciler.Status().Repaired; audits != c.audits || got != c.objects {
						t.Errorf("%d objects put right by audit %d, want %d by %d", got, audits, c.objects, c.audits)
					}
					f.wantPlan(t, "after the audit", served)
					return
				}
				t.Error("never put right")
			})
		})
	}
}

func TestAnAuditOfWhatIsRightDoesNothing(t *testing.T) {
	audited(t, func(t *testing.T, f *fixture, log *bytes.Buffer) {
		before := log.Len()
		pass(10 * auditPeriod)
		if ops := f.dataplane.take(); len(ops) != 0 {
			t.Errorf("operations: %v", ops)
		}
		if log.Len() != before || f.reconciler.Status().Repaired != 0 {
			t.Errorf("log:\n%s", log)
		}
	})
}

func TestAnAuditTakesADrainingEndpointForWhatItIs(t *testing.T) {
	audited(t, func(t *testing.T, f *fixture, log *bytes.Buffer) {
		f.dataplane.SetConnections(realServer("10.96.0.10", "10.244.1.2:8080"), 1)
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(web("web", "10.96.0.10"))) })
		pass(3 * auditPeriod)
		if f.reconciler.Status().Draining != 1 || strings.Contains(log.String(), "somebody else") {
			t.Errorf("status %+v, log:\n%s", f.reconciler.Status(), log)
		}
	})
}
