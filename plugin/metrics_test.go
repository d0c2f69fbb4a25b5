package mooring

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// observations gives the number of values that a histogram has seen, in all series.
func observations(t *testing.T, c prometheus.Collector) (count uint64) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			count += metric.GetHistogram().GetSampleCount()
		}
	}
	return count
}

func TestProgrammingLatencyIsObservedOncePerTrigger(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local")
	now := time.Now()
	programmingDuration.Reset()
	before := m.Store.Load()
	for _, step := range []struct {
		situation string
		trigger   time.Time
		addr      string
		want      uint64
	}{
		{"no trigger", time.Time{}, "10.244.1.1", 0},
		{"a trigger", now.Add(-time.Second), "10.244.1.2", 1},
		{"another change, the same trigger", now.Add(-time.Second), "10.244.1.3", 1},
		{"another trigger", now, "10.244.1.4", 2},
	} {
		after := m.Store.Update(now, func(tx *state.Txn) {
			s := slice("prod", "db", endpoint(step.addr))
			s.TriggerTime = step.trigger
			tx.PutSlice(s)
		})
		observeLatency(before, after, now)
		before = after
		if got := observations(t, programmingDuration); got != step.want {
			t.Errorf("%s: %d observations, want %d", step.situation, got, step.want)
		}
	}
}

func TestNoLatencyForTheFirstList(t *testing.T) {
	store := state.NewIndexedStore()
	before := store.Load()
	programmingDuration.Reset()
	after := store.Update(changed, func(tx *state.Txn) {
		fixture(tx)
		s := slice("prod", "db", endpoint("10.244.1.1"))
		s.TriggerTime = changed
		tx.PutSlice(s)
	})
	observeLatency(before, after, time.Now())
	if got := observations(t, programmingDuration); got != 0 {
		t.Errorf("%d observations of what was there before", got)
	}
}

func TestServiceKind(t *testing.T) {
	for want, service := range map[string]*model.Service{"cluster_ip": {}, "headless_with_selector": {Headless: true}} {
		if got := serviceKind(service); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
