package dataplane_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// The tests of this file ask a Service with many endpoints, so that chance cannot explain that
// a client stays where it was.

// manyEndpoints are so many that a client without affinity goes around them visibly.
const manyEndpoints = 12

// crowd gives a Service of which every endpoint is on one pod, at ports of their own: the
// answer is the port. Those in gone have left.
func (l *lab) crowd(w way, service *model.Service, h *host, gone ...int) *state.Service {
	entry := &state.Service{Service: service}
	for i := range manyEndpoints {
		if slices.Contains(gone, i) {
			continue
		}
		slice := l.entry(w, service, h).Slices[0]
		slice.Name, slice.Ports[0].Port = fmt.Sprint(i), crowdPort(i)
		entry.Slices = append(entry.Slices, slice)
	}
	return entry
}

func crowdPort(i int) uint16 { return uint16(9000 + i) }

// serveCrowd has a pod answer on the ports of a crowd by their numbers.
func (w way) serveCrowd(t *testing.T, h *host) {
	t.Helper()
	for i := range manyEndpoints {
		named := *h
		named.name = fmt.Sprint(i)
		w.serve(t, &named, int(crowdPort(i)))
	}
}

// which gives the number of the endpoint that answers, by a new connection.
func (w way) which(t *testing.T, from *host, addr netip.Addr, port uint16) int {
	t.Helper()
	answer, err := w.ask(from, addr, port)
	if err != nil {
		t.Fatalf("%s -> %s: %v", from.name, netip.AddrPortFrom(addr, port), err)
	}
	var number int
	var source string
	if _, err := fmt.Sscan(answer, &number, &source); err != nil {
		t.Fatalf("answer %q: %v", answer, err)
	}
	return number
}

// stays checks that a client reaches an endpoint by several connections.
func (w way) stays(t *testing.T, from *host, addr netip.Addr, port uint16, want int) {
	t.Helper()
	for range 6 {
		if got := w.which(t, from, addr, port); got != want {
			t.Fatalf("%s -> %s: endpoint %d, was at %d", from.name, netip.AddrPortFrom(addr, port), got, want)
		}
	}
}

// wanders checks that a client is at another endpoint with each connection.
func (w way) wanders(t *testing.T, from *host, addr netip.Addr, port uint16) {
	t.Helper()
	seen := map[int]bool{}
	for range 6 {
		seen[w.which(t, from, addr, port)] = true
	}
	if len(seen) < 4 {
		t.Fatalf("%s -> %s: six connections reached endpoints %v alone", from.name, netip.AddrPortFrom(addr, port), seen)
	}
}

func sticky(timeout time.Duration) func(*model.Service) {
	return func(s *model.Service) { s.AffinityTimeout = timeout }
}

// A client is kept for as long as the Service says after its last connection began, whatever
// became of that.
func TestAffinityTimeout(t *testing.T) {
	const timeout = 3 * time.Second
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		w.serveCrowd(t, l.pod2)
		vip := serviceAddr(w.ipv6)
		c := l.context()
		l.run(c, l.crowd(w, w.everywhere(sticky(timeout)), l.pod2))
		first := w.which(t, l.client, vip, 80)
		w.stays(t, l.client, vip, 80, first)
		// The timer begins anew with each connection: after twice the time, still there.
		for end := time.Now().Add(2 * timeout); time.Now().Before(end); {
			w.stays(t, l.client, vip, 80, first)
		}
		// Another client has another endpoint: the time from here on is the first one's idle time.
		last := time.Now()
		if other := w.which(t, l.pod1, vip, 80); other == first {
			t.Errorf("two clients at endpoint %d, although they take turns", first)
		}
		timer := time.NewTimer(timeout - time.Since(last) + 50*time.Millisecond)
		<-timer.C
		if got := w.which(t, l.client, vip, 80); got == first {
			t.Errorf("at endpoint %d still, %s after the last connection; kept for %s", got, time.Since(last), timeout)
		}
		l.run(c)
	})
}

// When its endpoint goes, a client goes to another one at once, and is kept there.
func TestAffinityEndsWithTheEndpoint(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		w.serveCrowd(t, l.pod2)
		vip, service, c := serviceAddr(w.ipv6), w.everywhere(sticky(3*time.Hour)), l.context()
		l.run(c, l.crowd(w, service, l.pod2))
		first := w.which(t, l.client, vip, 80)
		w.stays(t, l.client, vip, 80, first)
		l.run(c, l.crowd(w, service, l.pod2, first))
		second := w.which(t, l.client, vip, 80)
		if second == first {
			t.Fatalf("at endpoint %d, which has left", first)
		}
		w.stays(t, l.client, vip, 80, second)
		// It returns, and nobody is drawn away.
		l.run(c, l.crowd(w, service, l.pod2))
		w.stays(t, l.client, vip, 80, second)
		l.run(c)
	})
}

// A client finds its endpoint by all addresses of the Service, from wherever it comes.
func TestAffinityOfAllAddresses(t *testing.T) {
	l := newLab(t)
	l.routes()
	everyWay(t, l, func(t *testing.T, w way) {
		w.serveCrowd(t, l.pod2)
		for name, edit := range map[string]func(*model.Service){"cluster": func(*model.Service) {}, "local": externalLocal} {
			c := l.context()
			l.run(c, l.crowd(w, w.everywhere(sticky(3*time.Hour), edit), l.pod2))
			for _, from := range []*host{l.pod1, l.node, l.client, l.remote} {
				fronts := map[netip.Addr]uint16{balancerAddr(w.ipv6): 80, externalAddr(w.ipv6): 80, l.node.addr(w.ipv6): 30080}
				if from != l.client || name != "local" {
					fronts[serviceAddr(w.ipv6)] = 80
				}
				if from == l.remote {
					fronts = map[netip.Addr]uint16{l.node.addr(w.ipv6): 30080}
				}
				home := w.which(t, from, l.node.addr(w.ipv6), 30080)
				for to, port := range fronts {
					w.stays(t, from, to, port, home)
				}
			}
			l.run(c)
		}
	})
}
