package scenarios

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

// generator makes random Services, of which many are strange and some impossible.
type generator struct {
	*rand.Rand
	// real restricts endpoints to the pods that there are and the port they listen on.
	real bool
}

// newGenerator starts from MOORING_SEED, or from a seed that it logs.
func newGenerator(t *testing.T, real bool) generator {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MOORING_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MOORING_SEED: %v", err)
		}
	}
	t.Logf("repeat with MOORING_SEED=%d", seed)
	return generator{rand.New(rand.NewPCG(seed, 0)), real}
}

func (g generator) maybe() bool  { return g.IntN(2) == 0 }
func (g generator) rarely() bool { return g.IntN(5) == 0 }
func (g generator) policy() (p model.TrafficPolicy) {
	if g.maybe() {
		p = model.Local
	}
	return p
}

// service gives a Service of both families and protocols. Services of different numbers
// share pods and nothing else.
func (g generator) service(number int) *state.Service {
	s := &model.Service{
		Key:                   model.ServiceKey{Namespace: "default", Name: fmt.Sprintf("service-%d", number)},
		Type:                  model.LoadBalancer,
		ExternalTrafficPolicy: g.policy(), InternalTrafficPolicy: g.policy(),
	}
	if g.rarely() {
		s.AffinityTimeout = 3 * time.Hour
	}
	address := func(prefix netip.Prefix) netip.Addr {
		addr := prefix.Addr()
		for range 16 + number {
			addr = addr.Next()
		}
		return addr
	}
	for family := range 2 {
		s.ClusterIPs = append(s.ClusterIPs, address(serviceCIDRs[family]))
		balancer := address(balancerCIDRs[family])
		if g.maybe() {
			s.LoadBalancerIPs = append(s.LoadBalancerIPs, balancer)
		} else {
			s.ExternalIPs = append(s.ExternalIPs, balancer)
		}
		for _, h := range []host{podHost, theNode, outsider} {
			if g.rarely() {
				addr := h.addr(family == 1)
				bits := addr.BitLen() - g.IntN(2)*8
				s.LoadBalancerSourceRanges = append(s.LoadBalancerSourceRanges, netip.PrefixFrom(addr, bits).Masked())
			}
		}
	}
	for _, protocol := range []model.Protocol{model.TCP, model.UDP} {
		port := model.ServicePort{Name: protocol.String(), Protocol: protocol, Port: 80}
		if !g.rarely() {
			port.NodePort = uint16(30080 + number)
		}
		s.Ports = append(s.Ports, port)
	}
	return &state.Service{Service: s, Slices: g.slices(s)}
}

// slices gives the endpoints of a Service, in one slice for each family and sometimes two.
func (g generator) slices(s *model.Service) []*model.EndpointSlice {
	var all []*model.EndpointSlice
	for _, ipv6 := range []bool{false, true} {
		hosts := append([]host(nil), pods...)
		for i := range 3 {
			if !g.real {
				hosts = append(hosts, newHost("", []string{"node-1", "node-2", ""}[g.IntN(3)],
					fmt.Sprintf("10.244.9.%d", i+1), fmt.Sprintf("fd00:10:244:9::%d", i+1)))
			}
		}
		g.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
		hosts = hosts[:g.IntN(len(hosts)+1)]
		for begin := 0; begin < len(hosts); {
			end := begin + 1 + g.IntN(len(hosts)-begin)
			slice := &model.EndpointSlice{Name: fmt.Sprintf("%s-%d", s.Key.Name, len(all)), Service: s.Key}
			for _, port := range s.Ports {
				if number := uint16(endpointPort); !g.rarely() {
					if !g.real && g.rarely() {
						number = 9090
					}
					slice.Ports = append(slice.Ports, model.EndpointPort{Name: port.Name, Protocol: port.Protocol, Port: number})
				}
			}
			hinted := g.maybe()
			for _, h := range hosts[begin:end] {
				slice.Endpoints = append(slice.Endpoints, g.endpoint(h, ipv6, hinted))
			}
			all = append(all, slice)
			begin = end
		}
	}
	return all
}

func (g generator) endpoint(h host, ipv6, hinted bool) model.Endpoint {
	e := model.Endpoint{Addr: h.addr(ipv6), About: &model.About{Node: h.node}}
	switch g.IntN(6) {
	case 0:
		e.Terminating = g.maybe()
	case 1:
		e.Serving, e.Terminating = true, true
	case 2: // as of a Service with publishNotReadyAddresses
		e.Ready, e.Serving, e.Terminating = true, g.maybe(), g.maybe()
	default:
		e.Ready, e.Serving = true, true
	}
	if hinted && !g.rarely() {
		e.About.ForZones = []string{[]string{zone, "elsewhere"}[g.IntN(2)]}
	}
	if hinted && g.maybe() {
		e.About.ForNodes = []string{[]string{theNode.node, "node-2"}[g.IntN(2)]}
	}
	return e
}

// questions calls ask for every flow to a Service.
func questions(entry *state.Service, ask func(q question, port model.ServicePort)) {
	for _, w := range ways {
		for _, from := range sources {
			for _, to := range destinations {
				if q, port, ok := w.ask(entry, from, to); ok {
					ask(q, port)
				}
			}
		}
	}
}

func (q question) String() string {
	return fmt.Sprintf("%s -> %s by %s", hostOf(q.From).name, netip.AddrPortFrom(q.at, q.port), q.way)
}

func TestRandomServicesArePlannedAsTheOracleSays(t *testing.T) {
	g := newGenerator(t, false)
	fates := map[oracle.Fate]int{}
	for range 200 {
		c := configurations[g.IntN(len(configurations))]
		entries := []*state.Service{g.service(0), g.service(1)}
		want := c.plan(plan.NewMarks(), entries...)
		trace := tracer{throughFake(t, want), c.masqueradeAll}
		for _, entry := range entries {
			questions(entry, func(q question, port model.ServicePort) {
				right := c.judge(entry, port, q)
				fates[right.Fate]++
				if got := trace.trace(q); !cmp.Equal(got, right, addrPorts) {
					t.Errorf("%s: %s: plan says %v, oracle %v", c.name, q, got, right)
				}
			})
			if t.Failed() {
				t.Fatalf("Service %+v\nslices %s\n%s", entry.Service, dump(entry.Slices), want)
			}
		}
	}
	t.Logf("%d answered, %d dropped, %d refused", fates[oracle.Answered], fates[oracle.Dropped], fates[oracle.Refused])
	if len(fates) != 3 {
		t.Error("the generator does not reach every fate")
	}
}

var addrPorts = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func dump(slices []*model.EndpointSlice) string {
	text := ""
	for _, s := range slices {
		text += fmt.Sprintf("\n%+v", *s)
	}
	return text
}
