package dataplane_test

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/dataplane"
	draining "github.com/mooring-project/mooring/proxy/drain"
	"github.com/mooring-project/mooring/proxy/plan"
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
		ticker := time.NewTicker(timeout / 3)
		defer ticker.Stop()
		for range 6 {
			<-ticker.C
			w.stays(t, l.client, vip, 80, first)
		}
		if other := w.which(t, l.pod1, vip, 80); other == first {
			t.Errorf("two clients at endpoint %d, although they take turns", first)
		}
		w.leaves(t, l.client, vip, 80, timeout)
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

// Who is kept is seen as what he is seen as otherwise, by his first connection and by later
// ones, whatever the policies and whichever way pods are told and masquerading is configured.
func TestAffinityLeavesSourcesAlone(t *testing.T) {
	for name, options := range map[string]dataplane.Options{
		"as usual": {}, "masquerade all": {MasqueradeAll: true}, "pods by interface": {PodInterface: "pod*"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.routes()
			l.restart(options)
			for _, w := range []way{{false, model.TCP}, {true, model.UDP}} {
				for _, h := range []*host{l.pod2, l.node} {
					w.serve(t, h, 8080)
					for policy, edit := range map[string]func(*model.Service){"cluster": func(*model.Service) {}, "local": externalLocal} {
						c := l.context()
						if options.PodInterface != "" {
							c.PodCIDRs = nil
						}
						l.run(c, l.entry(w, w.everywhere(edit), h))
						want := l.seen(w)
						l.run(c, l.entry(w, w.everywhere(edit, sticky(3*time.Hour)), h))
						for _, when := range []string{"first", "again"} {
							if diff := cmp.Diff(want, l.seen(w)); diff != "" {
								t.Errorf("%s, endpoint on %s, policy %s, %s connection (-without affinity +with):\n%s", w, h.name, policy, when, diff)
							}
						}
						l.run(c)
					}
				}
			}
		})
	}
}

// seen gives who answers whom and which source is seen.
func (l *lab) seen(w way) map[string][]string {
	result := map[string][]string{}
	for _, from := range []*host{l.pod1, l.pod2, l.node, l.client} {
		for to, port := range map[netip.Addr]uint16{
			serviceAddr(w.ipv6): 80, balancerAddr(w.ipv6): 80, externalAddr(w.ipv6): 80, l.node.addr(w.ipv6): 30080,
		} {
			result[from.name+" -> "+to.String()] = w.answers(l.t, from, to, port, 1)
		}
	}
	return result
}

// restart opens the data plane anew, as a proxy that starts again does.
func (l *lab) restart(options dataplane.Options) {
	l.t.Helper()
	options.IPv4, options.IPv6 = true, true
	l.node.Do(func() {
		kernel, err := dataplane.Open(options)
		if err == nil {
			err = kernel.Setup(l.t.Context())
		}
		if err == nil {
			l.have, err = kernel.Observe(l.t.Context())
		}
		if err != nil {
			l.t.Fatal(err)
		}
		if err := l.kernel.Close(); err != nil {
			l.t.Fatal(err)
		}
		l.kernel = kernel
		l.t.Cleanup(func() { kernel.Close() })
	})
}

// A proxy that starts again knows the clients, and changes nothing; nor does setting up anew.
func TestAffinityOutlivesTheProxy(t *testing.T) {
	l, w := newLab(t), way{false, model.TCP}
	w.serveCrowd(t, l.pod2)
	vip, service := serviceAddr(w.ipv6), w.everywhere(sticky(3*time.Hour), externalLocal)
	// Marks that do not depend on names alone: others have been there before.
	c := l.context()
	for i := range 50 {
		other := w.everywhere(sticky(time.Hour), externalLocal)
		other.Key.Name = fmt.Sprint(i)
		c.Service(l.crowd(w, other, l.pod2))
	}
	l.run(c, l.crowd(w, service, l.pod2))
	first, inside := w.which(t, l.client, vip, 80), w.which(t, l.pod1, l.node.addr(w.ipv6), 30080)
	before := l.have.String()
	l.restart(dataplane.Options{})
	if diff := cmp.Diff(before, l.have.String()); diff != "" {
		t.Errorf("observed after a restart (-before +after):\n%s", diff)
	}
	again := l.context()
	again.Marks.Adopt(l.have)
	l.run(again, l.crowd(w, service, l.pod2))
	if diff := cmp.Diff(before, l.have.String()); diff != "" {
		t.Errorf("planned after a restart (-before +after):\n%s", diff)
	}
	w.stays(t, l.client, vip, 80, first)
	w.stays(t, l.pod1, l.node.addr(w.ipv6), 30080, inside)
}

// A Service may change its mind about how long, and whether at all.
func TestAffinityChanges(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		w.serveCrowd(t, l.pod2)
		vip, c := serviceAddr(w.ipv6), l.context()
		l.run(c, l.crowd(w, w.everywhere(sticky(3*time.Hour)), l.pod2))
		first := w.which(t, l.client, vip, 80)
		l.run(c, l.crowd(w, w.everywhere(sticky(2*time.Second)), l.pod2))
		w.stays(t, l.client, vip, 80, first)
		w.leaves(t, l.client, vip, 80, 2*time.Second)

		l.run(c, l.crowd(w, w.everywhere(sticky(3*time.Hour)), l.pod2))
		w.stays(t, l.client, vip, 80, w.which(t, l.client, vip, 80))
		l.run(c, l.crowd(w, w.everywhere(), l.pod2))
		w.wanders(t, l.client, vip, 80)
		for key := range l.have {
			if key.Mark != 0 || key.Kind == plan.Affinity || key.Kind == plan.AffinityInside {
				t.Errorf("without affinity there is %s", key)
			}
		}
		l.node.Do(func() {
			for _, name := range chains(t) {
				if strings.HasPrefix(name, "affinity-") {
					t.Errorf("without affinity there is chain %s", name)
				}
			}
		})
		l.run(c)
	})
}

// leaves checks that a client is at another endpoint once the time is over. Its turn may come to
// the same one, and a datagram may by chance leave by the port of an earlier flow, but not
// again and again.
func (w way) leaves(t *testing.T, from *host, addr netip.Addr, port uint16, timeout time.Duration) {
	t.Helper()
	const tick = 50 * time.Millisecond // a jiffy or two, and the emulation's delays
	last := w.which(t, from, addr, port)
	for range 3 {
		timer := time.NewTimer(timeout + tick)
		<-timer.C
		if w.which(t, from, addr, port) != last {
			return
		}
	}
	t.Errorf("%s -> %s: at endpoint %d still, %s after the last connection", from.name, netip.AddrPortFrom(addr, port), last, timeout+tick)
}

// The outside is not kept at an endpoint of another node when the policy becomes Local.
func TestAffinityObeysPolicies(t *testing.T) {
	l := newLab(t)
	l.routes()
	everyWay(t, l, func(t *testing.T, w way) {
		for _, h := range []*host{l.pod2, l.remote} {
			w.serve(t, h, 8080)
		}
		c := l.context()
		service := w.everywhere(sticky(3 * time.Hour))
		l.run(c, l.entry(w, service, l.remote))
		for _, from := range []*host{l.client, l.pod1} {
			if got := w.answers(t, from, balancerAddr(w.ipv6), 80, 3); !strings.HasPrefix(got[0], "remote ") {
				t.Fatalf("%s, the only endpoint being remote: %q", from.name, got)
			}
		}
		service = w.everywhere(sticky(3*time.Hour), externalLocal, internalLocal)
		l.run(c, l.entry(w, service, l.remote, l.pod2))
		for to, from := range map[netip.Addr]*host{balancerAddr(w.ipv6): l.client, serviceAddr(w.ipv6): l.pod1} {
			if got := w.answers(t, from, to, 80, 3); len(got) != 1 || !strings.HasPrefix(got[0], "pod2 ") {
				t.Errorf("%s, policies Local: %q", from.name, got)
			}
		}
		l.run(c)
	})
}

// Connections of clients that are kept go on when their endpoint leaves, also when it is the
// last one, and new ones go elsewhere meanwhile.
func TestAffinityLeavesConnectionsAlone(t *testing.T) {
	l := newLab(t)
	l.routes()
	everyWay(t, l, func(t *testing.T, w way) {
		if w.protocol != model.TCP {
			return // an endpoint that leaves is not waited for
		}
		w.serveCrowd(t, l.pod2)
		service, c := w.everywhere(sticky(3*time.Hour), externalLocal), l.context()
		ledger := draining.NewLedger(time.Hour)
		run := func(gone ...int) {
			t.Helper()
			want := base()
			maps.Copy(want, c.Service(l.crowd(w, service, l.pod2, gone...)))
			l.want(decide(ledger, l.have, want))
		}
		run()
		old := map[*host]net.Conn{}
		talks := func(when string) {
			t.Helper()
			for from, conn := range old {
				if _, err := talk(conn); err != nil {
					t.Errorf("%s, connection of %s, %s: %v", w, from.name, when, err)
				}
			}
		}
		var all []int
		for i := range manyEndpoints {
			all = append(all, i)
		}
		homes := map[*host]int{}
		for _, from := range []*host{l.client, l.pod1, l.node} {
			homes[from] = w.which(t, from, balancerAddr(w.ipv6), 80)
			conn, err := w.dial(from, balancerAddr(w.ipv6), 80)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			old[from] = conn
		}
		talks("at first")
		gone := slices.Collect(maps.Values(homes))
		run(gone...)
		talks("its endpoint leaving")
		for from := range old {
			if got := w.which(t, from, balancerAddr(w.ipv6), 80); slices.Contains(gone, got) {
				t.Errorf("%s: %s at endpoint %d, which is leaving", w, from.name, got)
			}
		}
		run()
		talks("its endpoint back")
		run(all...)
		talks("no endpoint left")
		w.refused(t, l.pod1, balancerAddr(w.ipv6), 80)
		l.want(base())
	})
}

// decide has a ledger decide about every object, as the reconciler does.
func decide(ledger *draining.Ledger, have, want plan.Plan) plan.Plan {
	keys := slices.Collect(maps.Keys(have))
	for key := range want {
		if _, has := have[key]; !has {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b plan.Key) int {
		first := func(k plan.Key) int {
			if k.Kind == plan.RealServer {
				return 0
			}
			return int(k.Kind)
		}
		return first(a) - first(b)
	})
	result := plan.Plan{}
	for _, key := range keys {
		applied, inApplied := have[key]
		wanted, inWant := want[key]
		if value, exists := ledger.Decide(key, applied, inApplied, wanted, inWant, time.Now()); exists {
			result[key] = value
		}
	}
	return result
}
