package watch

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/dataplane/fake"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/test/hostile"
)

// FuzzObjects has hostile objects converted, planned and applied: nothing crashes, no object of
// the plan is one that the data plane could not hold or that is not ours, and what is left out has
// a reason.
func FuzzObjects(f *testing.F) {
	for seed := range uint64(8) {
		octets := make([]byte, 512)
		for i, r := 0, rand.New(rand.NewPCG(seed, seed)); i < len(octets); i++ {
			octets[i] = byte(r.Uint32())
		}
		f.Add(octets)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		services, endpointSlices := hostile.Objects(choices)
		c := &converter{names: &intern.Names{}}
		store := state.NewStore()
		store.Update(time.Unix(0, 0), func(tx *state.Txn) {
			for _, s := range services {
				tx.PutService(c.service(s))
			}
			for _, s := range endpointSlices {
				if converted := c.slice(s); converted != nil {
					tx.PutSlice(converted)
				}
			}
		})
		for _, p := range c.take() {
			if p.field == "" || p.text == "" {
				t.Errorf("left out without a place or a reason: %+v", p)
			}
		}
		checkPlan(t, store.Load())
	})
}

// hostileNode is the context in which hostile objects are planned: with everything on.
func hostileNode() plan.Context {
	return plan.Context{
		Place: policy.Place{Node: "node-1", Zone: "node-2"}, Scheduler: "rr", Marks: plan.NewMarks(), LocalhostNodePorts: true, ExternalIPs: true,
		NodeAddresses: []netip.Addr{netip.MustParseAddr("172.30.0.11"), netip.MustParseAddr("fd00:172:30::11")},
		PodCIDRs:      []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
	}
}

func checkPlan(t *testing.T, snapshot *state.Snapshot) {
	context, assembly := hostileNode(), plan.NewAssembly()
	for key, entry := range snapshot.Services() {
		assembly.Replace(key, context.Service(entry), entry.Service.ClusterIPs...)
		for _, p := range context.Problems(entry) {
			if p.Field == "" || p.Reason == "" || len(p.Value) > 1000 {
				t.Errorf("%s: a problem without field or reason, or of great length: %+v", key, p)
			}
		}
	}
	want := assembly.Plan()
	for key, value := range want {
		checkObject(t, want, key, value)
	}
	maps.DeleteFunc(want, func(key plan.Key, _ plan.Value) bool { return key.Kind == plan.Relay }) // a socket
	var kernel fake.Dataplane
	if _, err := kernel.Apply(t.Context(), plan.Diff(nil, want)); err != nil {
		t.Error(err)
	}
	got, err := kernel.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("applied (-plan +data plane):\n%s", diff)
	}
}

// checkObject says what of an object the kernel would refuse or take for something else's.
func checkObject(t *testing.T, whole plan.Plan, key plan.Key, value plan.Value) {
	t.Helper()
	mine := netip.MustParseAddr("172.30.0.11")
	switch {
	case key.Addr.IsValid() && key.Addr.Is4In6(), key.Endpoint.Addr().Is4In6():
		t.Errorf("%s: an IPv4 address in the form of IPv6", key)
	case key.Kind == plan.Relay:
		if !key.Addr.IsLoopback() || key.Endpoint.Addr() != mine && key.Endpoint.Addr() != netip.MustParseAddr("fd00:172:30::11") {
			t.Errorf("%s: a relay that is not from loopback to the node", key)
		}
		return
	case key.Mark != 0 && key.Mark&^uint32(plan.MarkBits|plan.Masqueraded) != 0:
		t.Errorf("%s: a mark that is not ours", key)
	case key.Mark == 0 && key.Kind == plan.VirtualServer && (policy.Unfit(key.Addr) != "" && !key.Addr.IsLinkLocalUnicast() || key.Port == 0):
		t.Errorf("%s: no address of a Service", key)
	case key.Kind == plan.RealServer && (policy.Unfit(key.Endpoint.Addr()) != "" || key.Endpoint.Port() == 0 || value.Weight > 65535):
		t.Errorf("%s %+v: no endpoint", key, value)
	}
	if key.Kind == plan.VirtualServer {
		if _, owned := whole[key.OwnedKey()]; !owned {
			t.Errorf("%s: is not noted as ours", key)
		}
	}
	if key.Kind == plan.RealServer {
		if _, served := whole[key.VirtualServerKey()]; !served {
			t.Errorf("%s: has no virtual server", key)
		}
	}
	if key.Mark == 0 && key.Protocol != 0 && key.Protocol != model.TCP && key.Protocol != model.UDP && key.Protocol != model.SCTP {
		t.Errorf("%s: no protocol of ours", key)
	}
}
