package drain

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// A connection of a client that was kept at an endpoint needs the diversion of its address alone,
// when no endpoint serves it any more.
func TestDiversionStaysForConnectionsOfClientsThatWereKept(t *testing.T) {
	const group = 0x02000001
	server := plan.MarkKey(plan.VirtualServer, 0x01000001, false)
	leaving := server
	leaving.Kind, leaving.Endpoint = plan.RealServer, netip.MustParseAddrPort("10.244.1.2:8080")
	pinned := plan.MarkKey(plan.Pinned, group, false)
	pinned.Pin = server.Mark
	for _, kind := range []plan.Kind{plan.Affinity, plan.AffinityInside} {
		ledger := NewLedger(time.Minute)
		stays := func(k plan.Key, v plan.Value) bool {
			_, exists := ledger.Decide(k, v, true, plan.Value{}, false, start)
			return exists
		}
		for _, step := range []struct {
			key   plan.Key
			value plan.Value
			stays bool
		}{
			{leaving, plan.Value{Weight: 1}, true},
			{server, plan.Value{}, true},
			{server.OwnedKey(), plan.Value{}, true},
			{pinned, plan.Value{}, false},
			{key(kind, model.TCP), plan.Value{Mark: group}, false},
			{key(plan.VirtualServer, model.TCP), plan.Value{}, false},
			{key(plan.Divert, model.TCP), plan.Value{}, true},
		} {
			if got := stays(step.key, step.value); got != step.stays {
				t.Errorf("%s stays: %t, want %t", step.key, got, step.stays)
			}
		}
		_, again := ledger.Finish(start.Add(time.Second), nil)
		want := map[plan.Key]bool{server: true, server.OwnedKey(): true, key(plan.Divert, model.TCP): true}
		for _, k := range again {
			delete(want, k)
			if stays(k, plan.Value{}) {
				t.Errorf("%s stays after the last connection", k)
			}
		}
		if len(want) > 0 {
			t.Errorf("not decided again: %v", want)
		}
		if len(ledger.kept) != 0 || len(ledger.led) != 0 {
			t.Errorf("remembered for nothing: %v %v", ledger.kept, ledger.led)
		}
	}
}

// An endpoint that returns takes its clients back, and the address is led as ever.
func TestEndpointReturnsToItsClients(t *testing.T) {
	const group = 0x02000001
	server := plan.MarkKey(plan.VirtualServer, 0x01000001, false)
	real := server
	real.Kind, real.Endpoint = plan.RealServer, netip.MustParseAddrPort("10.244.1.2:8080")
	pinned := plan.MarkKey(plan.Pinned, group, false)
	pinned.Pin = server.Mark
	ledger := NewLedger(time.Minute)
	for _, inWant := range []bool{false, true} {
		ledger.Decide(real, plan.Value{Weight: 1}, true, plan.Value{Weight: 1}, inWant, start)
		ledger.Decide(pinned, plan.Value{}, true, plan.Value{}, inWant, start)
		ledger.Decide(key(plan.Affinity, model.TCP), plan.Value{Mark: group}, true, plan.Value{Mark: group}, inWant, start)
	}
	if ledger.Len() != 0 || len(ledger.kept) != 0 || len(ledger.led) != 0 {
		t.Errorf("remembered for nothing: %d leaving, %v %v", ledger.Len(), ledger.kept, ledger.led)
	}
}
