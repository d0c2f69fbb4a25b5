package drain

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func key(kind plan.Kind, protocol model.Protocol) plan.Key {
	k := plan.Key{Kind: kind, Protocol: protocol, Port: 80, Addr: netip.MustParseAddr("10.96.0.10")}
	if kind == plan.RealServer {
		k.Endpoint = netip.MustParseAddrPort("10.244.1.2:8080")
	}
	return k
}

func TestDecide(t *testing.T) {
	serving, idle := plan.Value{Weight: 1}, plan.Value{Weight: 0}
	type decision struct {
		Value  plan.Value
		Exists bool
	}
	tests := []struct {
		name     string
		key      plan.Key
		applied  bool
		want     bool
		leaving  bool // the virtual server's TCP real server is leaving already
		decision decision
		after    int // real servers leaving afterwards
	}{
		{"wanted and there", key(plan.RealServer, model.TCP), true, true, false, decision{serving, true}, 0},
		{"TCP endpoint leaves", key(plan.RealServer, model.TCP), true, false, false, decision{idle, true}, 1},
		{"TCP endpoint still leaves", key(plan.RealServer, model.TCP), true, false, true, decision{idle, true}, 1},
		{"TCP endpoint returns", key(plan.RealServer, model.TCP), true, true, true, decision{serving, true}, 0},
		{"TCP endpoint vanished from the kernel", key(plan.RealServer, model.TCP), false, false, true, decision{}, 0},
		{"UDP endpoint leaves at once", key(plan.RealServer, model.UDP), true, false, false, decision{}, 0},
		{"SCTP endpoint leaves at once", key(plan.RealServer, model.SCTP), true, false, false, decision{}, 0},
		{"virtual server without leaving endpoints goes", key(plan.VirtualServer, model.TCP), true, false, false, decision{}, 0},
		{"virtual server stays for its leaving endpoint", key(plan.VirtualServer, model.TCP), true, false, true, decision{serving, true}, 1},
		{"diversion stays for it", key(plan.Divert, model.TCP), true, false, true, decision{serving, true}, 1},
		{"masquerading of new connections does not", key(plan.Masquerade, model.TCP), true, false, true, decision{}, 1},
		{"a refusal does not", key(plan.Reject, model.TCP), true, false, true, decision{}, 1},
		{"another protocol's virtual server does not", key(plan.VirtualServer, model.UDP), true, false, true, decision{}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ledger := NewLedger(time.Minute)
			if test.leaving {
				ledger.Decide(key(plan.RealServer, model.TCP), serving, true, plan.Value{}, false, start)
			}
			value, exists := ledger.Decide(test.key, serving, test.applied, serving, test.want, start)
			if diff := cmp.Diff(test.decision, decision{value, exists}); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if ledger.Len() != test.after {
				t.Errorf("%d leaving afterwards, want %d", ledger.Len(), test.after)
			}
		})
	}
}

func TestFinish(t *testing.T) {
	tests := []struct {
		name        string
		after       time.Duration
		connections uint32
		finished    bool
	}{
		{"busy before the deadline", 59 * time.Second, 3, false},
		{"idle", time.Second, 0, true},
		{"busy at the deadline: cut", time.Minute, 3, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ledger := NewLedger(time.Minute)
			leaving := key(plan.RealServer, model.TCP)
			ledger.Decide(leaving, plan.Value{Weight: 1}, true, plan.Value{}, false, start)
			finished, again := ledger.Finish(start.Add(test.after), map[plan.Key]uint32{leaving: test.connections})
			if !test.finished {
				if len(finished) != 0 || ledger.Len() != 1 {
					t.Errorf("finished %v, %d leaving", finished, ledger.Len())
				}
				return
			}
			want := []Finished{{Key: leaving, Since: start, Cut: test.connections}}
			if diff := cmp.Diff(want, finished, cmp.Comparer(func(a, b plan.Key) bool { return a == b })); diff != "" {
				t.Errorf("finished (-want +got):\n%s", diff)
			}
			for _, lead := range again {
				if _, exists := ledger.Decide(lead, plan.Value{}, true, plan.Value{}, false, start); exists {
					t.Errorf("%s stays although nothing is leaving", lead)
				}
			}
			if len(again) != 3 || len(ledger.Servers()) != 0 {
				t.Errorf("to be decided again: %v; servers still counted: %v", again, ledger.Servers())
			}
		})
	}
}

// A connection of a pod to a second view needs the diversion of its address alone, also when
// new connections are refused or go another way.
func TestDiversionStaysForConnectionsToASecondView(t *testing.T) {
	mark := plan.MarkKey(plan.VirtualServer, 0x01000001, false)
	leaving := mark
	leaving.Kind, leaving.Endpoint = plan.RealServer, netip.MustParseAddrPort("10.244.1.2:8080")
	ledger := NewLedger(time.Minute)
	decide := func(k plan.Key, v plan.Value) bool {
		_, exists := ledger.Decide(k, v, true, plan.Value{}, false, start)
		return exists
	}
	for _, step := range []struct {
		key   plan.Key
		value plan.Value
		stays bool
	}{
		{leaving, plan.Value{Weight: 1}, true},
		{mark, plan.Value{}, true},
		{mark.OwnedKey(), plan.Value{}, true},
		{key(plan.Split, model.TCP), plan.Value{Mark: mark.Mark}, false},
		{key(plan.Divert, model.TCP), plan.Value{}, true},
		{key(plan.KeepSource, model.TCP), plan.Value{}, false},
	} {
		if got := decide(step.key, step.value); got != step.stays {
			t.Errorf("%s stays: %t, want %t", step.key, got, step.stays)
		}
	}
	_, again := ledger.Finish(start.Add(time.Second), nil)
	want := map[plan.Key]bool{mark: true, mark.OwnedKey(): true, key(plan.Divert, model.TCP): true}
	for _, k := range again {
		if !want[k] {
			t.Errorf("to be decided again without need: %s", k)
		}
		delete(want, k)
		if decide(k, plan.Value{}) {
			t.Errorf("%s stays after the last connection", k)
		}
	}
	if len(want) > 0 {
		t.Errorf("not decided again: %v", want)
	}
}

func TestAVirtualServersOwnTimeout(t *testing.T) {
	ledger := NewLedger(time.Minute)
	leaving, busy := key(plan.RealServer, model.TCP), map[plan.Key]uint32{key(plan.RealServer, model.TCP): 1}
	ledger.SetTimeout(leaving.VirtualServerKey(), 10*time.Second)
	ledger.Decide(leaving, plan.Value{Weight: 1}, true, plan.Value{}, false, start)
	if finished, _ := ledger.Finish(start.Add(9*time.Second), busy); len(finished) != 0 {
		t.Errorf("finished before the time: %v", finished)
	}
	if finished, _ := ledger.Finish(start.Add(10*time.Second), busy); len(finished) != 1 {
		t.Errorf("finished at the time: %v", finished)
	}
	ledger.Decide(leaving.VirtualServerKey(), plan.Value{}, true, plan.Value{}, false, start)
	ledger.Decide(leaving, plan.Value{Weight: 1}, true, plan.Value{}, false, start)
	if finished, _ := ledger.Finish(start.Add(59*time.Second), busy); len(finished) != 0 {
		t.Errorf("the timeout outlived its virtual server: %v", finished)
	}
}
