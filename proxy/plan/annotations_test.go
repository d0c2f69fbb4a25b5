package plan

import (
	"testing"
	"time"

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
		if got != test.want || (len(Problems(s)) > 0) != test.bad {
			t.Errorf("%q: %s, problems %v; want %s, bad %t", text, got, Problems(s), test.want, test.bad)
		}
	}
}

func TestDrainTimeoutOfAService(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "24h": 24 * time.Hour, "": 0, "90": 0, "-1s": 0, "0s": 0, "25h": 0, "soon": 0,
	} {
		s := service(func(s *model.Service) { s.Annotations = map[string]string{DrainTimeoutAnnotation: text} })
		if got := DrainTimeout(s); got != want || (len(Problems(s)) > 0) != (want == 0) {
			t.Errorf("%q: %s, problems %v; want %s", text, got, Problems(s), want)
		}
	}
	if s := service(); DrainTimeout(s) != 0 || Problems(s) != nil {
		t.Errorf("without annotation: %s, problems %v", DrainTimeout(s), Problems(s))
	}
}
