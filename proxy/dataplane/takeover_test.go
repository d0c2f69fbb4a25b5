package dataplane_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/dataplane/kubeproxy"
	"github.com/mooring-project/mooring/proxy/takeover"
)

// TestTakeOverThatEndsAfterEachStep takes over from what kube-proxy leaves in mode ipvs, and has the
// proxy end and start again after each step: at no time is a connection silent or a new one not served.
func TestTakeOverThatEndsAfterEachStep(t *testing.T) {
	l := newLab(t)
	l.routes()
	o := &takingOver{lab: l}
	for i, ipv6 := range []bool{false, true} {
		w := way{ipv6, model.TCP}
		if i == 0 {
			for _, h := range []*host{l.pod2, l.remote} {
				w.serve(t, h, 8080) // both families
			}
		}
		service := w.everywhere(externalLocal, func(s *model.Service) { s.Key.Name += fmt.Sprint(i) })
		o.services = append(o.services, l.entry(w, service, l.pod2, l.remote))
		o.addresses = append(o.addresses, serviceAddr(ipv6), balancerAddr(ipv6))
	}
	o.kubeProxy()
	o.hold()
	o.check("kube-proxy has ended")
	unrouted := fmt.Sprintf("ip route delete local %s dev kube-ipvs0 table local && ip -6 route delete local %s dev kube-ipvs0 table local", o.addresses[0], o.addresses[2])
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"nothing yet", func() {}},
		{"all is held, and routed", func() { o.must(l.kernel.Release(t.Context(), nil, o.addresses)) }},
		{"some addresses are not routed any more", func() { shell(t, unrouted) }},
		{"none is", func() { o.must(l.kernel.Divert(t.Context(), o.addresses)) }},
		{"some are on our device", func() { o.must(kubeproxy.Hold(o.steps().Held()[:1])) }},
		{"all that are to be kept are", func() { o.must(kubeproxy.Hold(o.steps().Held())) }},
		{"kube-proxy's device is gone", func() { o.must(kubeproxy.RemoveDevice(takeover.Device)) }},
		{"its rules are gone", func() { shell(t, "nft delete table inet rules-of-kube-proxy") }},
		{"its sets are gone", func() { o.must(l.kernel.RemoveLeftovers(t.Context(), o.steps())) }},
		{"what nobody needs is not held any more", func() { s := o.steps(); o.must(l.kernel.Release(t.Context(), s.Release, s.Held())) }},
	} {
		l.node.Do(step.do)
		o.check(step.name)
		l.restart(dataplane.Options{RandomFully: true})
		o.check(step.name + ", and a proxy has set up")
		o.adopt()
		o.serve()
		o.check(step.name + ", and it serves")
	}
	var steps takeover.Steps
	l.node.Do(func() { steps = o.steps() })
	if len(steps.Keep) == 0 || len(steps.Vacate)+len(steps.Sets) > 0 || steps.Device {
		t.Errorf("at the end: %+v", steps)
	}
}

// takingOver is a node that has been kube-proxy's.
type takingOver struct {
	*lab
	services  []*state.Service
	addresses []netip.Addr // those of kube-proxy's device
	held      []heldConnection
}

func (o *takingOver) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// kubeProxy makes what kube-proxy leaves.
func (o *takingOver) kubeProxy() {
	o.t.Helper()
	o.node.Do(func() {
		shell(o.t, `ip link add kube-ipvs0 type dummy
ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535 && ipset add KUBE-NODE-PORT-TCP 30080
ipset create KUBE-6-NODE-PORT-TCP bitmap:port range 0-65535 && ipset add KUBE-6-NODE-PORT-TCP 30080`)
		shell(o.t, fmt.Sprintf(`nft 'table inet rules-of-kube-proxy {
	chain postrouting {
		type nat hook postrouting priority srcnat
		ct original ip daddr %s ip saddr != 10.244.0.0/16 masquerade
		ct original ip6 daddr %s ip6 saddr != fd00:10:244::/48 masquerade
		fib saddr type local masquerade
	}
}'`, serviceAddr(false), serviceAddr(true)))
		for _, address := range o.addresses {
			shell(o.t, fmt.Sprintf("ip address add %s dev kube-ipvs0 nodad", address))
		}
		for _, f := range o.fronts() {
			shell(o.t, fmt.Sprintf("ipvsadm -A -t %s -s rr", f))
			for _, endpoint := range f.endpoints {
				shell(o.t, fmt.Sprintf("ipvsadm -a -t %s -r %s -m", f, netip.AddrPortFrom(endpoint.addr(f.Addr().Is6()), 8080)))
			}
		}
	})
}

// fronts are what clients connect to.
func (o *takingOver) fronts() (fronts []front) {
	for _, ipv6 := range []bool{false, true} {
		fronts = append(fronts,
			front{netip.AddrPortFrom(serviceAddr(ipv6), 80), []*host{o.pod2, o.remote}},
			front{netip.AddrPortFrom(balancerAddr(ipv6), 80), []*host{o.pod2}},
			front{netip.AddrPortFrom(o.node.addr(ipv6), 30080), []*host{o.pod2}})
	}
	return fronts
}

// front is an address and port with the endpoints that kube-proxy has for it.
type front struct {
	netip.AddrPort
	endpoints []*host
}

func (f front) dial(from *host) (net.Conn, error) {
	return way{f.Addr().Is6(), model.TCP}.dial(from, f.Addr(), f.Port())
}

// visits are all ways to the fronts.
func (o *takingOver) visits(visit func(name string, f front, from *host)) {
	for _, f := range o.fronts() {
		for _, from := range []*host{o.pod1, o.node, o.client} {
			visit(fmt.Sprintf("%s -> %s", from.name, f), f, from)
		}
	}
}

// hold makes connections by all ways.
func (o *takingOver) hold() {
	o.t.Helper()
	o.visits(func(name string, f front, from *host) {
		conn, err := f.dial(from)
		if err != nil {
			o.t.Fatalf("%s: %v", name, err)
		}
		o.t.Cleanup(func() { conn.Close() })
		o.held = append(o.held, heldConnection{conn, name})
	})
}

// heldConnection is one that has been made by kube-proxy.
type heldConnection struct {
	net.Conn
	name string
}

// check checks that all connections go on, and that new ones can be made.
func (o *takingOver) check(when string) {
	o.t.Helper()
	for _, c := range o.held {
		if _, err := talk(c); err != nil {
			o.t.Errorf("%s: %s, held: %v", when, c.name, err)
		}
	}
	o.visits(func(name string, f front, from *host) {
		conn, err := f.dial(from)
		if err == nil {
			_, err = talk(conn)
			conn.Close()
		}
		if err != nil {
			o.t.Errorf("%s: %s: %v", when, name, err)
		}
	})
	if o.t.Failed() {
		o.t.FailNow() // what follows is no news, and takes its time
	}
}

// steps gives what is to be done yet; it is to be called on the node.
func (o *takingOver) steps() takeover.Steps {
	o.t.Helper()
	found, err := o.kernel.Leftovers(o.t.Context())
	o.must(err)
	return takeover.Decide(found)
}

// adopt makes kube-proxy's virtual servers ours.
func (o *takingOver) adopt() {
	o.t.Helper()
	o.node.Do(func() {
		o.must(o.kernel.Adopt(o.t.Context(), o.steps()))
		var err error
		o.have, err = o.kernel.Observe(o.t.Context())
		o.must(err)
	})
}

// serve has the kernel serve all Services.
func (o *takingOver) serve() {
	o.t.Helper()
	c := o.context()
	c.Marks.Adopt(o.have)
	o.run(c, o.services...)
}
