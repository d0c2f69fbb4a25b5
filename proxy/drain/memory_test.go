package drain

import (
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// restarted gives the Ledger of a process that starts after a while, with the clock set to another
// time meanwhile, on a data plane that holds applied.
func restarted(t *testing.T, l *Ledger, applied plan.Plan, after, jump time.Duration) *Ledger {
	t.Helper()
	const uptime = 100 * time.Hour
	text, err := l.Memory().Encode("node-1", start, uptime)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := Decode(text, "node-1", start.Add(after+jump), uptime+after)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	next := NewLedger(time.Hour)
	next.Resume(memory, applied.Get)
	return next
}

func TestDeadlinesOutliveTheProcess(t *testing.T) {
	leaving := key(plan.RealServer, model.TCP)
	busy := map[plan.Key]uint32{leaving: 3}
	for _, test := range []struct {
		name     string
		after    time.Duration // how long nobody was there
		jump     time.Duration // of the clock meanwhile
		then     time.Duration // after the start of the new process
		finished bool
	}{
		{"before its deadline", 20 * time.Second, 0, 39 * time.Second, false},
		{"at its deadline", 20 * time.Second, 0, 40 * time.Second, true},
		{"its deadline passed meanwhile", 2 * time.Minute, 0, 0, true},
		{"the clock was set forward by a year", 20 * time.Second, 365 * 24 * time.Hour, 39 * time.Second, false},
		{"the clock was set back by a year", 20 * time.Second, -365 * 24 * time.Hour, 40 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := NewLedger(time.Minute)
			before.Decide(leaving, plan.Value{Weight: 1}, true, plan.Value{}, false, start)
			after := restarted(t, before, plan.Plan{leaving: {}}, test.after, test.jump)
			if _, exists := after.Decide(leaving, plan.Value{}, true, plan.Value{}, false, start.Add(test.after+test.jump)); !exists || after.Len() != 1 {
				t.Fatalf("stays %t, %d leaving", exists, after.Len())
			}
			finished, _ := after.Finish(start.Add(test.after+test.jump+test.then), busy)
			if got := len(finished) == 1; got != test.finished {
				t.Errorf("finished %v, want %t", finished, test.finished)
			}
		})
	}
}

func TestOnlyWhatIsStillTrueIsResumed(t *testing.T) {
	leaving := key(plan.RealServer, model.TCP)
	before := NewLedger(time.Minute)
	before.Decide(leaving, plan.Value{Weight: 1}, true, plan.Value{}, false, start)
	for _, test := range []struct {
		name    string
		applied plan.Plan
		want    int
	}{
		{"still leaving", plan.Plan{leaving: {}}, 1},
		{"gone", plan.Plan{}, 0},
		{"written down, but not done any more", plan.Plan{leaving: {Weight: 1}}, 0},
	} {
		if got := restarted(t, before, test.applied, 0, 0).Len(); got != test.want {
			t.Errorf("%s: %d leaving, want %d", test.name, got, test.want)
		}
	}
}

// TestDiversionsOutliveTheProcess has the next process keep the diversion of an address that leads
// to connections of a second view, and of clients that were kept at an endpoint.
func TestDiversionsOutliveTheProcess(t *testing.T) {
	const group = 0x02000001
	second := plan.MarkKey(plan.VirtualServer, 0x01000001, false)
	leaving := second
	leaving.Kind, leaving.Endpoint = plan.RealServer, netip.MustParseAddrPort("10.244.1.2:8080")
	pinned := plan.MarkKey(plan.Pinned, group, false)
	pinned.Pin = second.Mark
	for name, steps := range map[string]plan.Plan{
		"a second view":         {key(plan.Split, model.TCP): {Mark: second.Mark}},
		"clients that are kept": {pinned: {}, key(plan.Affinity, model.TCP): {Mark: group}},
	} {
		before := NewLedger(time.Minute)
		decide := func(l *Ledger, k plan.Key, v plan.Value) bool {
			_, exists := l.Decide(k, v, true, plan.Value{}, false, start)
			return exists
		}
		decide(before, leaving, plan.Value{Weight: 1})
		for _, k := range sorted(steps) {
			decide(before, k, steps[k])
		}
		applied := maps.Clone(steps)
		applied[leaving] = plan.Value{}
		after := restarted(t, before, applied, time.Second, 0)
		if diff := cmp.Diff(before.Memory().leaving, after.Memory().leaving); diff != "" {
			t.Errorf("%s: (-before +after)\n%s", name, diff)
		}
		if !decide(after, key(plan.Divert, model.TCP), plan.Value{}) {
			t.Errorf("%s: the diversion goes", name)
		}
		after.Finish(start.Add(2*time.Second), nil)
		if decide(after, key(plan.Divert, model.TCP), plan.Value{}) {
			t.Errorf("%s: the diversion stays for nobody", name)
		}
	}
}

func TestAnUnusableMemory(t *testing.T) {
	ledger := NewLedger(time.Minute)
	ledger.Decide(key(plan.RealServer, model.TCP), plan.Value{Weight: 1}, true, plan.Value{}, false, start)
	text, err := ledger.Memory().Encode("node-1", start, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, text, node string
		uptime           time.Duration
		want             string
	}{
		{"of another node", string(text), "node-2", time.Hour, `of the node "node-1"`},
		{"of an earlier start of the machine", string(text), "node-1", time.Minute, ErrOtherStart.Error()},
		{"cut off", string(text[:len(text)/2]), "node-1", time.Hour, "damaged"},
		{"empty", "", "node-1", time.Hour, "damaged"},
		{"of another kind", strings.Replace(string(text), "real-server", "unreal-server", 1), "node-1", time.Hour, "no kind"},
		{"of another format", strings.Replace(string(text), `"version": 1`, `"version": 2`, 1), "node-1", time.Hour, "version 2"},
	} {
		if memory, err := Decode([]byte(test.text), test.node, start, test.uptime); err == nil || !strings.Contains(err.Error(), test.want) || memory.Len() != 0 {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := Decode(text, "node-1", start, time.Minute); !errors.Is(err, ErrOtherStart) {
		t.Errorf("error %v", err)
	}
}

func TestRevisionChangesWithWhatIsRemembered(t *testing.T) {
	ledger := NewLedger(time.Minute)
	leaving := key(plan.RealServer, model.TCP)
	for _, step := range []struct {
		name    string
		do      func()
		entries uint64
	}{
		{"one begins to leave", func() { ledger.Decide(leaving, plan.Value{Weight: 1}, true, plan.Value{}, false, start) }, 1},
		{"nothing new", func() { ledger.Decide(leaving, plan.Value{}, true, plan.Value{}, false, start) }, 0},
		{"connections counted", func() { ledger.Finish(start, map[plan.Key]uint32{leaving: 2}) }, 0},
		{"it returns", func() { ledger.Decide(leaving, plan.Value{}, true, plan.Value{Weight: 1}, true, start) }, 1},
	} {
		before := ledger.Revision()
		step.do()
		if after := ledger.Revision(); after.Entries-before.Entries != step.entries || after.Paths != before.Paths {
			t.Errorf("%s: from %v to %v", step.name, before, after)
		}
	}
}
