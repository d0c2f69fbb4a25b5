// Package contract holds the test that every data plane has to pass: the fake one that
// other packages' tests use, and the kernel itself.
package contract

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// Dataplane is what the contract is about.
type Dataplane interface {
	Setup(ctx context.Context) error
	Observe(ctx context.Context) (plan.Plan, error)
	ObservePart(ctx context.Context, kind plan.Kind, first bool) (part plan.Plan, more bool, err error)
	ObserveElements(ctx context.Context, elements []plan.Key) (plan.Plan, error)
	ObserveServers(ctx context.Context, virtualServers []plan.Key) (plan.Plan, error)
	Apply(ctx context.Context, ops []plan.Op) (done []plan.Op, err error)
	Connections(ctx context.Context, virtualServers []plan.Key) (map[plan.Key]uint32, error)
	Cleanup(ctx context.Context) error
}

// Fixture is a data plane on a fresh kernel, and a way around it.
type Fixture struct {
	Dataplane
	// Foreign does an operation on a virtual or real server behind our back.
	Foreign func(op plan.Op) error
	// Servers lists all virtual servers, whoever's they are.
	Servers func() (plan.Plan, error)
}

// Test runs the contract. New gives a data plane for one subtest on which nothing has
// been set up.
func Test(t *testing.T, create func(t *testing.T) Fixture) {
	for name, test := range map[string]func(t *testing.T, f Fixture){
		"nothing is there after setup":                      fresh,
		"any plan can be reached from any other":            reachable,
		"the way does not matter":                           independent,
		"setting up again keeps everything":                 adopted,
		"add of existing updates, delete of absent is done": forgiving,
		"prefixes may overlap":                              overlapping,
		"servers of others are left alone":                  foreign,
		"one bad operation does not stop the others":        independentErrors,
		"cleanup removes ours alone":                        cleanup,
		"relays belong to somebody else":                    relays,
		"connections are counted by real server":            connections,
		"the parts are the whole":                           parts,
		"servers are read one by one":                       individually,
		"elements are read one by one":                      elements,
		"a long list comes in parts":                        long,
	} {
		t.Run(name, func(t *testing.T) {
			f := create(t)
			if err := f.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			test(t, f)
		})
	}
}

func fresh(t *testing.T, f Fixture) { f.expect(t, plan.Plan{}) }

func reachable(t *testing.T, f Fixture) {
	have := plan.Plan{}
	rapid.Check(t, func(r *rapid.T) {
		want := drawPlan(r)
		ops := plan.Diff(have, want)
		f.apply(r, ops)
		f.expect(r, want)
		have = want
	})
}

func independent(t *testing.T, f Fixture) {
	rapid.Check(t, func(r *rapid.T) {
		for _, want := range []plan.Plan{drawPlan(r), drawPlan(r), {}} {
			have, err := f.Observe(t.Context())
			if err != nil {
				r.Fatal(err)
			}
			f.apply(r, plan.Diff(have, want))
			f.expect(r, want)
		}
	})
}

func adopted(t *testing.T, f Fixture) {
	want := example()
	f.apply(t, plan.Diff(nil, want))
	for range 2 {
		if err := f.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.expect(t, want)
	}
}

func forgiving(t *testing.T, f Fixture) {
	want := example()
	f.apply(t, plan.Diff(nil, want))
	for key, value := range want {
		if key.Kind == plan.RealServer {
			value.Weight += 3
			want[key] = value
		}
		switch key.Kind {
		case plan.Split, plan.Pin, plan.Affinity, plan.AffinityInside:
			want[key] = plan.Value{Mark: value.Mark + 4}
		case plan.AffinityTimeout:
			want[key] = plan.Value{Timeout: value.Timeout + 1}
		}
	}
	f.apply(t, plan.Diff(nil, want))
	f.expect(t, want)
	f.apply(t, plan.Diff(want, nil))
	f.apply(t, plan.Diff(want, nil))
	f.expect(t, plan.Plan{})
	var updates []plan.Op
	for _, op := range plan.Diff(nil, want) {
		op.Verb = plan.Update
		updates = append(updates, op)
	}
	f.apply(t, updates)
	f.expect(t, want)
}

func overlapping(t *testing.T, f Fixture) {
	want := plan.Plan{}
	for _, text := range []string{"10.96.0.0/16", "10.96.0.0/12", "10.97.4.0/24", "0.0.0.0/0", "fd00::/8", "fd00:10:96::/112", "255.255.255.255/32"} {
		want[plan.PrefixKey(plan.ServiceCIDR, netip.MustParsePrefix(text))] = plan.Value{}
		f.apply(t, plan.Diff(observe(t, f), want))
		f.expect(t, want)
	}
	for key := range want {
		delete(want, key)
		f.apply(t, plan.Diff(observe(t, f), want))
		f.expect(t, want)
	}
}

func foreign(t *testing.T, f Fixture) {
	theirs := virtualServer(model.TCP, "192.0.2.1:443")
	server := realServer(theirs, "192.0.2.2:443")
	for _, op := range []plan.Op{
		{Verb: plan.Add, Key: theirs, Value: plan.Value{Scheduler: "rr"}},
		{Verb: plan.Add, Key: server, Value: plan.Value{Weight: 7}},
	} {
		if err := f.Foreign(op); err != nil {
			t.Fatal(err)
		}
	}
	f.expect(t, plan.Plan{})
	f.apply(t, plan.Diff(nil, example()))
	f.expect(t, example())
	f.apply(t, plan.Diff(example(), nil))
	f.onlyServer(t, theirs)
}

func (f Fixture) onlyServer(t *testing.T, want plan.Key) {
	t.Helper()
	servers, err := f.Servers()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := servers[want]; !ok || len(servers) != 1 {
		t.Errorf("virtual servers:\n%swant %s alone", servers, want)
	}
}

func independentErrors(t *testing.T, f Fixture) {
	want := example()
	bad := virtualServer(model.TCP, "10.96.0.99:80")
	lost := realServer(bad, "10.244.1.9:80")
	nobody := realServer(virtualServer(model.TCP, "10.96.0.10:80"), "239.1.2.3:80")
	all := plan.Apply(want, []plan.Op{
		{Verb: plan.Add, Key: nobody, Value: plan.Value{Weight: 1}},
		{Verb: plan.Add, Key: bad, Value: plan.Value{Scheduler: "nonesuch"}},
		{Verb: plan.Add, Key: lost, Value: plan.Value{Weight: 1}},
	})
	ops := plan.Diff(nil, all)
	done, err := f.Apply(t.Context(), ops)
	if err == nil {
		t.Fatal("no error for a scheduler that does not exist")
	}
	if got := len(ops) - len(done); got != 3 {
		t.Errorf("%d operations not done, want 3: %v", got, err)
	}
	refused := map[plan.Key]bool{}
	for _, refusal := range plan.Refusals(err) {
		refused[refusal.Op.Key] = refusal.NoScheduler
	}
	if noScheduler, is := refused[nobody]; len(refused) != 2 || !refused[bad] || !is || noScheduler {
		t.Errorf("refused, with true for want of the scheduler: %v", refused)
	}
	if diff := cmp.Diff(want.String(), plan.Apply(nil, done).String()); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	f.expect(t, want)
}

func cleanup(t *testing.T, f Fixture) {
	theirs := virtualServer(model.UDP, "192.0.2.1:53")
	if err := f.Foreign(plan.Op{Verb: plan.Add, Key: theirs, Value: plan.Value{Scheduler: "rr"}}); err != nil {
		t.Fatal(err)
	}
	f.apply(t, plan.Diff(nil, example()))
	for range 2 {
		if err := f.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.expect(t, plan.Plan{})
		f.onlyServer(t, theirs)
	}
}

func relays(t *testing.T, f Fixture) {
	relay := plan.Key{Kind: plan.Relay, Protocol: model.TCP, Port: 30080, Addr: netip.MustParseAddr("127.0.0.1")}
	done, err := f.Apply(t.Context(), []plan.Op{{Verb: plan.Add, Key: relay}})
	if err == nil || len(done) != 0 {
		t.Errorf("done %v, error %v; want an error", done, err)
	}
}

func connections(t *testing.T, f Fixture) {
	f.apply(t, plan.Diff(nil, example()))
	absent := virtualServer(model.TCP, "10.96.0.77:80")
	present := virtualServer(model.TCP, "10.96.0.10:80")
	got, err := f.Connections(t.Context(), []plan.Key{absent, present})
	if err != nil {
		t.Fatal(err)
	}
	want := map[plan.Key]uint32{realServer(present, "10.244.1.2:8080"): 0, realServer(present, "10.244.2.2:8080"): 0}
	if diff := cmp.Diff(want, got, comparers); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
}

func parts(t *testing.T, f Fixture) {
	theirs := virtualServer(model.TCP, "192.0.2.1:443")
	for _, op := range []plan.Op{
		{Verb: plan.Add, Key: theirs, Value: plan.Value{Scheduler: "rr"}},
		{Verb: plan.Add, Key: realServer(theirs, "192.0.2.2:443"), Value: plan.Value{Weight: 7}},
	} {
		if err := f.Foreign(op); err != nil {
			t.Fatal(err)
		}
	}
	f.apply(t, plan.Diff(nil, example()))
	whole, ours := plan.Plan{}, []plan.Key{virtualServer(model.TCP, "10.96.0.99:80")} // one that is not there
	add := func(part plan.Plan, err error) {
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(whole, part)
	}
	for kind := range plan.Kinds() {
		part, _ := f.list(t, kind)
		add(part, nil)
	}
	for key := range example() {
		if key.Kind == plan.VirtualServer {
			ours = append(ours, key)
		}
	}
	add(f.ObserveServers(t.Context(), ours))
	if diff := cmp.Diff(example().String(), whole.String()); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

// list gives the elements of a kind, and in how many parts they came.
func (f Fixture) list(t *testing.T, kind plan.Kind) (all plan.Plan, parts int) {
	t.Helper()
	all = plan.Plan{}
	for more := true; more; parts++ {
		var part plan.Plan
		var err error
		if part, more, err = f.ObservePart(t.Context(), kind, parts == 0); err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, part)
	}
	return all, parts
}

func elements(t *testing.T, f Fixture) {
	whole, want := example(), plan.Plan{}
	var asked []plan.Key
	for key, value := range whole {
		if key.Kind == plan.VirtualServer || key.Kind == plan.RealServer {
			continue
		}
		if asked = append(asked, key); len(asked)%2 == 0 {
			delete(whole, key)
			continue
		}
		want[key] = value
	}
	// Whatever is there without what else would be: the table does not mind.
	f.apply(t, plan.Diff(nil, whole))
	for range 2 { // elements that are not there disturb nothing
		got, err := f.ObserveElements(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Errorf("elements (-want +got):\n%s", diff)
		}
	}
	if got, err := f.ObserveElements(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("of none: %s, error %v", got, err)
	}
}

// long has lists that are not read to their end, and changes between their parts.
func long(t *testing.T, f Fixture) {
	want := plan.Plan{}
	for i := range 3000 {
		key := virtualServer(model.TCP, "10.96.0.10:80")
		key.Kind, key.Port = plan.Divert, uint16(i+1)
		want[key] = plan.Value{}
	}
	f.apply(t, plan.Diff(nil, want))
	for range 3 {
		if _, more, err := f.ObservePart(t.Context(), plan.Divert, true); err != nil || !more {
			t.Fatalf("more %t, error %v", more, err)
		}
		another := virtualServer(model.TCP, "10.96.0.11:80")
		another.Kind = plan.Divert
		f.apply(t, []plan.Op{{Verb: plan.Add, Key: another}})
		if _, _, err := f.ObservePart(t.Context(), plan.Divert, false); err != nil {
			t.Fatal(err)
		}
		f.apply(t, []plan.Op{{Verb: plan.Delete, Key: another}})
		if none, parts := f.list(t, plan.Reject); len(none) != 0 {
			t.Errorf("%d elements in %d parts of a set without any", len(none), parts)
		}
	}
	got, parts := f.list(t, plan.Divert)
	if diff := cmp.Diff(want.String(), got.String()); diff != "" || parts < 3 {
		t.Errorf("%d parts (-want +got):\n%s", parts, diff)
	}
	var keys []plan.Key
	for key := range want {
		keys = append(keys, key)
	}
	if found, err := f.ObserveElements(t.Context(), keys); err != nil || len(found) != len(want) {
		t.Errorf("%d elements found, want %d, error %v", len(found), len(want), err)
	}
}

func individually(t *testing.T, f Fixture) {
	f.apply(t, plan.Diff(nil, example()))
	deleted, changed := virtualServer(model.TCP, "10.96.0.10:80"), virtualServer(model.TCP, "[fd00:10:96::10]:443")
	marked, theirs := plan.MarkKey(plan.VirtualServer, 0x01000005, false), virtualServer(model.UDP, "192.0.2.1:53")
	want, asked := plan.Plan{}, []plan.Key{virtualServer(model.TCP, "10.96.0.99:80")} // one that has never been there
	for key, value := range example() {
		switch key.Kind {
		case plan.VirtualServer:
			asked = append(asked, key)
			want[key] = value
		case plan.RealServer:
			want[key] = value
		}
	}
	asked = append(asked, theirs)
	for _, op := range []plan.Op{
		{Verb: plan.Delete, Key: deleted},
		{Verb: plan.Update, Key: changed, Value: plan.Value{Scheduler: "lc", Flags: 1, Persistence: 600}},
		{Verb: plan.Delete, Key: realServer(marked, "10.244.1.9:8080")},
		{Verb: plan.Add, Key: theirs, Value: plan.Value{Scheduler: "rr"}},
		{Verb: plan.Add, Key: realServer(theirs, "192.0.2.2:53"), Value: plan.Value{Weight: 7}},
	} {
		if err := f.Foreign(op); err != nil {
			t.Fatal(err)
		}
		want.Record(op)
	}
	maps.DeleteFunc(want, func(key plan.Key, _ plan.Value) bool { return key.VirtualServerKey() == deleted })
	// Many are asked for, again and again.
	got, err := f.ObserveServers(t.Context(), slices.Repeat(asked, 20))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
	if got, err := f.ObserveServers(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("of none: %s, error %v", got, err)
	}
}

var comparers = cmp.Comparer(func(a, b plan.Key) bool { return a == b })

// fatal is what *testing.T and *rapid.T have in common.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func (f Fixture) apply(t fatal, ops []plan.Op) {
	t.Helper()
	done, err := f.Apply(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	if len(done) != len(ops) {
		t.Fatalf("%d of %d operations done without an error", len(done), len(ops))
	}
}

func (f Fixture) expect(t fatal, want plan.Plan) {
	t.Helper()
	if diff := cmp.Diff(want.String(), observe(t, f).String()); diff != "" {
		t.Fatalf("observed (-want +got):\n%s", diff)
	}
}

func observe(t fatal, f Fixture) plan.Plan {
	t.Helper()
	got, err := f.Observe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func virtualServer(protocol model.Protocol, address string) plan.Key {
	ap := netip.MustParseAddrPort(address)
	return plan.Key{Kind: plan.VirtualServer, Protocol: protocol, Addr: ap.Addr(), Port: ap.Port()}
}

func realServer(virtual plan.Key, endpoint string) plan.Key {
	virtual.Kind, virtual.Endpoint = plan.RealServer, netip.MustParseAddrPort(endpoint)
	return virtual
}

// example is a plan with something of every kind, in both families.
func example() plan.Plan {
	p := plan.Plan{}
	for address, endpoints := range map[string][]string{
		"10.96.0.10:80":        {"10.244.1.2:8080", "10.244.2.2:8080"},
		"[fd00:10:96::10]:443": {"[fd00:10:244:1::2]:8443"},
	} {
		server := virtualServer(model.TCP, address)
		addServer(p, server, plan.Value{Scheduler: "rr", Flags: 1, Persistence: 600}, plan.Divert, plan.Masquerade)
		for _, endpoint := range endpoints {
			real := realServer(server, endpoint)
			p[real] = plan.Value{Weight: 1}
			p[plan.Key{Kind: plan.Hairpin, Endpoint: netip.AddrPortFrom(real.Endpoint.Addr(), 0)}] = plan.Value{}
		}
	}
	for _, address := range []string{"10.96.0.11:53", "[fd00:10:96::11]:53"} {
		key := virtualServer(model.UDP, address)
		key.Kind = plan.Reject
		p[key] = plan.Value{}
	}
	for _, ipv6 := range []bool{false, true} {
		addMarkServer(p, 0x01000005, ipv6)
		addAffinity(p, 0x02000001, ipv6)
	}
	for prefix, kind := range map[string]plan.Kind{
		"10.96.0.0/16": plan.ServiceCIDR, "fd00:10:96::/112": plan.ServiceCIDR,
		"10.244.0.0/16": plan.PodCIDR, "fd00:10:244::/48": plan.PodCIDR,
	} {
		p[plan.PrefixKey(kind, netip.MustParsePrefix(prefix))] = plan.Value{}
	}
	return p
}

// addMarkServer adds a second view of an address, and who may see the first.
func addMarkServer(p plan.Plan, mark uint32, ipv6 bool) {
	front, endpoint, sources := virtualServer(model.TCP, "192.0.2.10:80"), "10.244.1.9:8080", []string{"192.0.2.0/24", "192.0.2.0/28", "198.51.100.7/32"}
	if ipv6 {
		front, endpoint, sources = virtualServer(model.TCP, "[2001:db8::10]:80"), "[fd00:10:244:1::9]:8080", []string{"2001:db8::/64", "2001:db8::/32"}
	}
	server := plan.MarkKey(plan.VirtualServer, mark, ipv6)
	p[server], p[server.OwnedKey()] = plan.Value{Scheduler: "rr"}, plan.Value{}
	p[realServer(server, endpoint)] = plan.Value{Weight: 1}
	for kind, value := range map[plan.Kind]plan.Value{
		plan.Split: {Mark: mark}, plan.Divert: {}, plan.KeepSource: {}, plan.Firewall: {}, plan.DropOutside: {},
	} {
		front.Kind = kind
		p[front] = value
	}
	front.Kind = plan.FirewallAllow
	for _, text := range sources {
		prefix := netip.MustParsePrefix(text)
		front.Endpoint, front.Bits = netip.AddrPortFrom(prefix.Addr(), 0), uint8(prefix.Bits())
		p[front] = plan.Value{}
	}
}

// addAffinity adds what keeps clients at two endpoints, in a group of two addresses.
func addAffinity(p plan.Plan, group uint32, ipv6 bool) {
	front, endpoints := virtualServer(model.TCP, "192.0.2.11:80"), []string{"10.244.1.9:8080", "10.244.1.8:8080"}
	if ipv6 {
		front, endpoints = virtualServer(model.TCP, "[2001:db8::11]:80"), []string{"[fd00:10:244:1::9]:8080", "[fd00:10:244:1::8]:8080"}
	}
	for _, kind := range []plan.Kind{plan.Affinity, plan.AffinityInside} {
		front.Kind = kind
		p[front] = plan.Value{Mark: group}
	}
	for i, endpoint := range endpoints {
		mark := group + 4<<uint32(i)
		server := plan.MarkKey(plan.VirtualServer, mark, ipv6)
		p[server], p[server.OwnedKey()] = plan.Value{Scheduler: "rr"}, plan.Value{}
		p[realServer(server, endpoint)] = plan.Value{Weight: 1}
		addPin(p, group, mark, netip.MustParseAddrPort(endpoint))
	}
	addTimeout(p, group, ipv6, 10800)
}

// addPin adds that clients of a group are kept at an endpoint.
func addPin(p plan.Plan, group, mark uint32, endpoint netip.AddrPort) {
	pin := plan.MarkKey(plan.Pin, group, endpoint.Addr().Is6())
	pinned := pin
	pin.Endpoint, pinned.Kind, pinned.Pin = endpoint, plan.Pinned, mark
	p[pin], p[pinned] = plan.Value{Mark: mark}, plan.Value{}
}

func addTimeout(p plan.Plan, group uint32, ipv6 bool, seconds uint32) {
	for _, bit := range []uint32{0, plan.Masqueraded} {
		p[plan.MarkKey(plan.AffinityTimeout, group|bit, ipv6)] = plan.Value{Timeout: seconds}
	}
}

// addServer adds a virtual server, the record that it is ours, and other elements.
func addServer(p plan.Plan, server plan.Key, value plan.Value, kinds ...plan.Kind) {
	p[server] = value
	for _, kind := range slices.Concat(kinds, []plan.Kind{plan.Owned}) {
		key := server
		key.Kind = kind
		p[key] = plan.Value{}
	}
}
