package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// crowd is a Service with session affinity and some endpoints.
func crowd(name string, endpoints int, edit ...func(*model.Service)) *state.Service {
	s := slice("a", model.TCP)
	for i := range endpoints {
		s.Endpoints = append(s.Endpoints, ready(fmt.Sprintf("10.244.%d.%d", 2+i/200, 1+i%200), "node-2"))
	}
	return &state.Service{Service: service(append(edit, func(s *model.Service) {
		s.Key.Name, s.AffinityTimeout = name, 10*time.Second
	})...), Slices: []*model.EndpointSlice{s}}
}

func count(p Plan, kind Kind) (n int) {
	for key := range p {
		if key.Kind == kind {
			n++
		}
	}
	return n
}

// One endpoint more or less changes what concerns it and nothing else.
func TestAffinityCostOfOneEndpoint(t *testing.T) {
	c := node
	c.Marks = NewMarks()
	before := c.Service(crowd("web", 100))
	ops := Diff(before, c.Service(crowd("web", 101)))
	var kinds []Kind
	for _, op := range ops {
		if op.Verb != Add {
			t.Errorf("%s, when an endpoint is added", op)
		}
		kinds = append(kinds, op.Key.Kind)
	}
	slices.Sort(kinds)
	want := []Kind{VirtualServer, RealServer, RealServer, OwnedMark, Pinned, Pin}
	if !slices.Equal(kinds, want) {
		t.Errorf("operations on %v, want %v", kinds, want)
	}
}

// When marks run out, IPVS keeps the clients: less exactly, but all of them.
func TestAffinityWithoutMarksIsPersistence(t *testing.T) {
	c := node
	c.Marks = NewMarks()
	for i := range 40 {
		if p := c.Service(crowd(fmt.Sprint("other-", i), 200)); count(p, Pin) != 200 {
			t.Fatalf("Service %d: %d pins, want 200", i, count(p, Pin))
		}
	}
	late := crowd("late", 200)
	p := c.Service(late)
	server := Key{Kind: VirtualServer, Protocol: model.TCP, Port: 80, Addr: netip.MustParseAddr("10.96.0.10")}
	if p[server].Persistence != 10 || count(p, Pin) != 0 || count(p, Affinity) != 0 || count(p, OwnedMark) != 0 {
		t.Errorf("plan:\n%s\nwant persistence alone", p)
	}
	// What it could not use it has given back.
	for i := range 40 {
		c.Marks.Forget(model.ServiceKey{Namespace: "default", Name: fmt.Sprint("other-", i)})
	}
	c.Marks.Forget(late.Service.Key)
	if n := len(c.Marks.taken); n != 0 {
		t.Errorf("%d marks still taken", n)
	}
	if p := c.Service(late); count(p, Pin) != 200 || p[server].Persistence != 0 {
		t.Errorf("%d pins and persistence %d when there is room again", count(p, Pin), p[server].Persistence)
	}
}

// An endpoint that leaves is idle only after its clients have been let go, or a virtual server
// that has it alone would refuse them.
func TestClientsAreLetGoBeforeTheirEndpointIsIdle(t *testing.T) {
	c := node
	c.Marks = NewMarks()
	have := c.Service(crowd("web", 2))
	want := c.Service(crowd("web", 1))
	for key, value := range have {
		if key.Kind == RealServer || key.Kind == VirtualServer || key.Kind == OwnedMark {
			if _, stays := want[key]; !stays {
				value.Weight = 0
				want[key] = value
			}
		}
	}
	idle := false
	for _, op := range Diff(have, want) {
		switch op.Key.Kind {
		case RealServer:
			idle = true
		case Pinned:
			if idle {
				t.Errorf("too late: %s", op)
			}
		}
	}
	if !idle {
		t.Error("no endpoint has become idle")
	}
}

// An endpoint whose weight is 0 takes no client back.
func TestNobodyIsKeptAtWeightZero(t *testing.T) {
	c := node
	c.Marks = NewMarks()
	entry := crowd("web", 2, func(s *model.Service) {
		s.Annotations = map[string]string{SchedulerAnnotation: "wrr", WeightsAnnotation: "node/node-2=0,*=1"}
	})
	p := c.Service(entry)
	for key, value := range p {
		if key.Kind == RealServer && value.Weight != 0 {
			t.Errorf("%s has weight %d, want 0", key, value.Weight)
		}
	}
	if count(p, Pin) != 0 || count(p, RealServer) != 2 {
		t.Errorf("plan:\n%s", p)
	}
}
