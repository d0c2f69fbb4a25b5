package plan

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

func TestSchedulerOfAService(t *testing.T) {
	for text, test := range map[string]struct {
		want Value
		bad  bool
	}{
		"wlc":               {Value{Scheduler: "wlc"}, false},
		"mh":                {Value{Scheduler: "mh"}, false},
		"mh,port":           {Value{Scheduler: "mh", Flags: 0x10}, false},
		"sh, fallback,port": {Value{Scheduler: "sh", Flags: 0x18}, false},
		"":                  {Value{Scheduler: "rr"}, true},
		"random":            {Value{Scheduler: "rr"}, true},
		"rr,port":           {Value{Scheduler: "rr"}, true},
		"mh,":               {Value{Scheduler: "rr"}, true},
	} {
		s := service(func(s *model.Service) { s.Annotations = map[string]string{SchedulerAnnotation: text} })
		p := node.Service(&state.Service{Service: s, Slices: []*model.EndpointSlice{slice("a", model.TCP, ready("10.244.2.2", "node-2"))}})
		got := p[Key{Kind: VirtualServer, Protocol: model.TCP, Addr: addr("10.96.0.10"), Port: 80}]
		if got != test.want || (len(node.Problems(&state.Service{Service: s})) > 0) != test.bad {
			t.Errorf("%q: %s, problems %v; want %s, bad %t", text, got, node.Problems(&state.Service{Service: s}), test.want, test.bad)
		}
	}
}

func TestDrainTimeoutOfAService(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "24h": 24 * time.Hour, "": 0, "90": 0, "-1s": 0, "0s": 0, "25h": 0, "soon": 0,
	} {
		s := service(func(s *model.Service) { s.Annotations = map[string]string{DrainTimeoutAnnotation: text} })
		if got := DrainTimeout(s); got != want || (len(node.Problems(&state.Service{Service: s})) > 0) != (want == 0) {
			t.Errorf("%q: %s, problems %v; want %s", text, got, node.Problems(&state.Service{Service: s}), want)
		}
	}
	if s := service(); DrainTimeout(s) != 0 || node.Problems(&state.Service{Service: s}) != nil {
		t.Errorf("without annotation: %s, problems %v", DrainTimeout(s), node.Problems(&state.Service{Service: s}))
	}
}

func TestWeightsOfAService(t *testing.T) {
	for _, c := range []struct {
		name        string
		annotations map[string]string
		// want are the weights of an endpoint on node-1 in zone-a, on node-2 in zone-a, on node-3.
		want [3]uint32
		// problem is part of the reason; empty if all is well.
		problem string
	}{
		{"nothing said", nil, [3]uint32{1, 1, 1}, ""},
		{"by node, zone and the rest", map[string]string{SchedulerAnnotation: "wrr", WeightsAnnotation: "node/node-1=5, zone/zone-a=3,*=2"}, [3]uint32{5, 3, 2}, ""},
		{"nobody but one zone", map[string]string{SchedulerAnnotation: "wlc", WeightsAnnotation: "zone/zone-a=1,*=0"}, [3]uint32{1, 1, 0}, ""},
		{"with a slow start weights are finer", map[string]string{SchedulerAnnotation: "wlc", WeightsAnnotation: "node/node-1=2", SlowStartAnnotation: "30s"}, [3]uint32{200, 100, 100}, ""},
		{"a scheduler that does not look", map[string]string{WeightsAnnotation: "*=2"}, [3]uint32{1, 1, 1}, "the scheduler rr does not look at weights"},
		{"no number", map[string]string{SchedulerAnnotation: "wrr", WeightsAnnotation: "*=many"}, [3]uint32{1, 1, 1}, `"*=many" is not like`},
		{"too large", map[string]string{SchedulerAnnotation: "wrr", WeightsAnnotation: "*=656"}, [3]uint32{1, 1, 1}, "up to 655"},
		{"negative", map[string]string{SchedulerAnnotation: "wrr", WeightsAnnotation: "*=-1"}, [3]uint32{1, 1, 1}, "is not like"},
		{"of whom", map[string]string{SchedulerAnnotation: "wrr", WeightsAnnotation: "web=1"}, [3]uint32{1, 1, 1}, "begins with neither"},
		{"empty", map[string]string{SchedulerAnnotation: "wrr", WeightsAnnotation: ""}, [3]uint32{1, 1, 1}, "is not like"},
		{"a slow start that is too slow", map[string]string{SchedulerAnnotation: "wrr", SlowStartAnnotation: "2h"}, [3]uint32{1, 1, 1}, "between 1s and 1h"},
		{"a slow start with no unit", map[string]string{SchedulerAnnotation: "wrr", SlowStartAnnotation: "30"}, [3]uint32{1, 1, 1}, "not a duration"},
		{"a slip", map[string]string{"mooring.dev/weight": "*=1"}, [3]uint32{1, 1, 1}, "no such annotation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := service(func(s *model.Service) { s.Annotations = c.annotations })
			endpoints := []model.Endpoint{ready("10.244.2.1", "node-1"), ready("10.244.2.2", "node-2"), ready("10.244.2.3", "node-3")}
			for i := range endpoints[:2] {
				endpoints[i] = inZone(endpoints[i], "zone-a")
			}
			p := node.Service(&state.Service{Service: s, Slices: []*model.EndpointSlice{slice("a", model.TCP, endpoints...)}})
			var got [3]uint32
			for i, key := range slices.SortedFunc(maps.Keys(p.realServers()), Key.Compare) {
				got[i] = p[key].Weight
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("weights (-want +got):\n%s", diff)
			}
			problems := node.Problems(&state.Service{Service: s})
			if (len(problems) > 0) != (c.problem != "") || len(problems) > 0 && !strings.Contains(problems[0].Reason, c.problem) {
				t.Errorf("problems %v, want %q", problems, c.problem)
			}
		})
	}
}

// realServers gives those of a plan.
func (p Plan) realServers() Plan {
	servers := maps.Clone(p)
	maps.DeleteFunc(servers, func(k Key, _ Value) bool { return k.Kind != RealServer })
	return servers
}

func inZone(e model.Endpoint, zone string) model.Endpoint {
	e.About = &model.About{Node: e.Node(), Zone: zone}
	return e
}
