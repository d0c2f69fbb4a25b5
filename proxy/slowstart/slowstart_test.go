package slowstart

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

var (
	server = plan.Key{Kind: plan.RealServer, Protocol: model.TCP, Port: 80, Addr: netip.MustParseAddr("10.96.0.10"), Endpoint: netip.MustParseAddrPort("10.244.1.2:8080")}
	full   = plan.Value{Weight: 100}
	noon   = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
)

func growing(t *testing.T) *Ramps {
	r := New()
	r.SetDuration(server.VirtualServerKey(), 20*time.Second)
	if got := r.Decide(server, false, full, true, true, noon); got.Weight != 10 {
		t.Fatalf("first weight %d, want 10", got.Weight)
	}
	return r
}

func TestAWeightGrowsInStepsUntilItIsFull(t *testing.T) {
	r := growing(t)
	var weights []uint32
	now := noon
	for r.Next(now) > 0 {
		now = now.Add(r.Next(now))
		if !slices.Equal(r.Growing(), []plan.Key{server}) {
			t.Fatalf("growing %v", r.Growing())
		}
		weights = append(weights, r.Decide(server, true, full, true, true, now).Weight)
	}
	if diff := cmp.Diff([]uint32{20, 30, 40, 50, 60, 70, 80, 90, 100}, weights); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
	if took := now.Sub(noon); took != 18*time.Second {
		t.Errorf("took %s", took)
	}
	if got := r.Decide(server, true, full, true, true, now.Add(time.Hour)); got != full || len(r.Growing()) != 0 {
		t.Errorf("afterwards %v, growing %v", got, r.Growing())
	}
}

func TestWhoStartsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name             string
		prepare          func(*Ramps)
		inApplied, joins bool
		want             plan.Value
	}{
		{"nothing is said", func(r *Ramps) { r.SetDuration(server.VirtualServerKey(), 0) }, false, true, full},
		{"there already, as after a restart", func(*Ramps) {}, true, true, full},
		{"with nobody there", func(*Ramps) {}, false, false, full},
		{"of weight 0", func(*Ramps) {}, false, true, plan.Value{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New()
			r.SetDuration(server.VirtualServerKey(), 20*time.Second)
			c.prepare(r)
			if got := r.Decide(server, c.inApplied, c.want, true, c.joins, noon); got != c.want || r.Next(noon) != 0 {
				t.Errorf("%v, next in %s", got, r.Next(noon))
			}
		})
	}
}

func TestAnEndpointThatGoesWhileItGrowsIsForgotten(t *testing.T) {
	r := growing(t)
	r.Decide(server, true, plan.Value{}, false, true, noon.Add(5*time.Second))
	if r.Next(noon.Add(5*time.Second)) != 0 {
		t.Error("still growing")
	}
}

func TestTheAnnotationGoesWhileAnEndpointGrows(t *testing.T) {
	r := growing(t)
	r.SetDuration(server.VirtualServerKey(), 0)
	if got := r.Decide(server, true, full, true, true, noon.Add(5*time.Second)); got != full || r.Next(noon) != 0 {
		t.Errorf("%v", got)
	}
}

func TestAVirtualServerThatGoesIsForgotten(t *testing.T) {
	r := growing(t)
	r.Decide(server.VirtualServerKey(), true, plan.Value{}, false, true, noon)
	if got := r.Decide(server, true, full, true, true, noon); got != full {
		t.Errorf("%v", got)
	}
}

func TestOtherObjectsAreLeftAlone(t *testing.T) {
	key := server
	key.Kind = plan.Divert
	if got := New().Decide(key, false, plan.Value{Mark: 7}, true, true, noon); got.Mark != 7 {
		t.Errorf("%v", got)
	}
}
