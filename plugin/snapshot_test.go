package mooring

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mooring-project/mooring/internal/snapshotfile"
	"github.com/mooring-project/mooring/internal/state"
)

// restoredPlugin is the plugin with the fixture as of 12 seconds ago, and no API server.
func restoredPlugin(t *testing.T, stanza string) *Mooring {
	t.Helper()
	m, err := Parse(caddy.NewTestController("dns", stanza))
	if err != nil {
		t.Fatal(err)
	}
	synced := state.NewIndexedStore().Update(changed, fixture)
	var objects *snapshotfile.Contents
	path := filepath.Join(t.TempDir(), "snapshot")
	if _, err = snapshotfile.Write(path, snapshotfile.Header{AsOf: time.Now().Add(-12 * time.Second)}, synced); err == nil {
		objects, err = snapshotfile.Read(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.Store.Restore(changed, objects.AsOf, objects.Fill)
	return m
}

func TestAnswersFromDiskSaySo(t *testing.T) {
	m := restoredPlugin(t, "mooring cluster.local {\nsnapshot /var/lib/mooring/dns\n}")
	if !m.Ready() {
		t.Error("not ready with a snapshot from disk")
	}
	const text = "from a snapshot on disk as of 12s ago, API server not reached yet"
	for question, code := range map[string]uint16{
		"web.default.svc.cluster.local. A":  dns.ExtendedErrorCodeStaleAnswer,
		"none.default.svc.cluster.local. A": dns.ExtendedErrorCodeStaleNXDOMAINAnswer,
	} {
		got := extendedErrors(t, m, question)
		if len(got) == 0 || got[0].InfoCode != code || got[0].ExtraText != text {
			t.Errorf("%s: got %v, want %d %q first", question, got, code, text)
		}
	}
	m.Store.Update(time.Now(), (*state.Txn).SetSynced)
	if got := extendedErrors(t, m, "web.default.svc.cluster.local. A"); len(got) != 0 {
		t.Errorf("after the sync: %v", got)
	}
}

func TestUnreadyWhileFromDisk(t *testing.T) {
	m := restoredPlugin(t, "mooring cluster.local {\nsnapshot /var/lib/mooring/dns max_age 1h unready\n}")
	if m.Ready() {
		t.Error("ready from disk")
	}
	m.Store.Update(time.Now(), (*state.Txn).SetSynced)
	if !m.Ready() {
		t.Error("not ready after the sync")
	}
}

func TestSnapshotProperty(t *testing.T) {
	for stanza, want := range map[string]snapshotConfig{
		"snapshot /x":                    {path: "/x", maxAge: 24 * time.Hour},
		"snapshot /x unready":            {path: "/x", maxAge: 24 * time.Hour, unready: true},
		"snapshot /x max_age 1h":         {path: "/x", maxAge: time.Hour},
		"snapshot /x max_age 1h unready": {path: "/x", maxAge: time.Hour, unready: true},
	} {
		m, err := Parse(caddy.NewTestController("dns", "mooring cluster.local {\n"+stanza+"\n}"))
		if err != nil || m.snapshot != want {
			t.Errorf("%s: %+v, %v", stanza, m.snapshot, err)
		}
	}
	for stanza, want := range map[string]string{
		"snapshot":                "Wrong argument count",
		"snapshot /x max_age":     "can be followed by max_age DURATION and unready, not by 'max_age'",
		"snapshot /x max_age old": "max_age wants a duration such as 24h, not 'old'",
		"snapshot /x sometimes":   "not by 'sometimes'",
	} {
		_, err := Parse(caddy.NewTestController("dns", "mooring cluster.local {\n"+stanza+"\n}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", stanza, err, want)
		}
	}
}

func TestTwoServerBlocksDoNotShareAFile(t *testing.T) {
	c := caddy.NewTestController("dns", "")
	same, other := &snapshotConfig{path: "/x"}, &snapshotConfig{path: "/y"}
	if err := same.claim(c); err != nil {
		t.Fatal(err)
	}
	if err := same.claim(c); err != nil {
		t.Errorf("the same server block by another key: %v", err)
	}
	c.ServerBlockIndex = 1
	if err := same.claim(c); err == nil || !strings.Contains(err.Error(), "/x is another server block's") {
		t.Errorf("error %v", err)
	}
	if err := other.claim(c); err != nil {
		t.Error(err)
	}
}

// restoredAgeNow gives the one value of the metric.
func restoredAgeNow(t *testing.T) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(restoredAge)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("%v %v", families, err)
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}

// TestStartFromDisk starts with a source that never answers: the file is served at once, and
// rewritten only after a sync.
func TestStartFromDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	if _, err := snapshotfile.Write(path, snapshotfile.Header{AsOf: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}, state.NewIndexedStore().Update(changed, fixture)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // the clock begins in the year 2000
		m := newTestPlugin(t, "mooring cluster.local")
		f, stores := newFeed(5*time.Second, time.Hour)
		m.Store = stores[0]
		m.keepings = []keeping{{&snapshotfile.Keeper{
			Path: path, Accept: snapshotfile.Acceptance{MaxAge: 24 * time.Hour}, Contact: time.Now, Logger: newLogger(),
		}, m.Store}}
		f.keepings, f.follow = m.keepings, func(ctx context.Context) { m.watchSnapshots(ctx, f.sources) }
		begin := time.Now()
		f.start()
		if waited := time.Since(begin); waited != restoredPatience {
			t.Errorf("waited %s, want %s", waited, restoredPatience)
		}
		if !m.Ready() || m.Store.Load().Service(key("default", "web")) == nil {
			t.Error("not served from disk")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if age := restoredAgeNow(t); age < 60 || age > 62 {
			t.Errorf("age %g s by the metric, want 60", age)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if snap := m.Store.Load(); !snap.Synced || !snap.Restored.IsZero() {
			t.Error("not synced after the source was")
		}
		if age := restoredAgeNow(t); age != 0 {
			t.Errorf("age %g s by the metric after the sync", age)
		}
		if failures, octets := m.keepings[0].Status().Failures, m.keepings[0].Status().Octets; failures != 0 || octets == 0 {
			t.Errorf("after the sync %d octets, %d failures", octets, failures)
		}
		if err := f.stop(); err != nil {
			t.Error(err)
		}
	})
}
