package dataplane_test

import (
	"errors"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/dataplane/sysctl"
	"github.com/mooring-project/mooring/proxy/plan"
)

// ready gives a data plane that has been set up in a namespace of its own.
func ready(t testing.TB) *dataplane.Kernel {
	t.Helper()
	needIPVS(t)
	netns.New(t).Enter()
	kernel := open(t)
	if err := kernel.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return kernel
}

func apply(t testing.TB, kernel *dataplane.Kernel, want plan.Plan) {
	t.Helper()
	have, err := kernel.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kernel.Apply(t.Context(), plan.Diff(have, want)); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, kernel *dataplane.Kernel, want plan.Plan) {
	t.Helper()
	got, err := kernel.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}

// some is a plan with a virtual server and the elements it has.
func some() plan.Plan {
	p := base()
	server := plan.Key{Kind: plan.VirtualServer, Protocol: model.TCP, Addr: serviceAddr(false), Port: 80}
	p[server] = plan.Value{Scheduler: "rr"}
	for _, kind := range []plan.Kind{plan.Owned, plan.Divert, plan.Masquerade} {
		server.Kind = kind
		p[server] = plan.Value{}
	}
	mark := plan.MarkKey(plan.VirtualServer, 0x01000001, false)
	p[mark], p[mark.OwnedKey()] = plan.Value{Scheduler: "rr"}, plan.Value{}
	server.Kind = plan.Split
	p[server] = plan.Value{Mark: mark.Mark}
	server.Kind = plan.Affinity
	p[server] = plan.Value{Mark: 0x01000009}
	p[plan.MarkKey(plan.AffinityTimeout, 0x01000009, false)] = plan.Value{Timeout: 10}
	return p
}

// edit changes our table behind our back.
func edit(t *testing.T, change func(conn *nftables.Conn, table *nftables.Table)) {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	change(conn, &nftables.Table{Name: "mooring", Family: nftables.TableFamilyINet})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestTableOfAnotherVersionIsReplacedWithItsElements(t *testing.T) {
	kernel := ready(t)
	apply(t, kernel, some())
	edit(t, func(conn *nftables.Conn, table *nftables.Table) {
		conn.DelChain(&nftables.Chain{Table: table, Name: "layout-4"})
		conn.AddChain(&nftables.Chain{Table: table, Name: "layout-0"})
		// A chain that would go on doing something.
		conn.AddChain(&nftables.Chain{
			Table: table, Name: "old", Hooknum: nftables.ChainHookInput,
			Priority: nftables.ChainPriorityFilter, Type: nftables.ChainTypeFilter,
		})
	})
	if err := kernel.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, kernel, some())
	if got := strings.Join(chains(t), " "); got != "affinity-10 affinity-10-masqueraded answer forward input inside kept kept-masqueraded "+
		"layout-4 leave output outside outside-masqueraded postrouting prerouting received refuse reroute sent translated translated-output unlisted unserved unusable" {
		t.Errorf("chains: %s", got)
	}
}

func TestTableWithASetOfAnotherTypeIsReplaced(t *testing.T) {
	kernel := ready(t)
	edit(t, func(conn *nftables.Conn, table *nftables.Table) {
		conn.FlushTable(table)
		set := &nftables.Set{Table: table, Name: "divert-v4", KeyType: nftables.TypeIPAddr}
		conn.DelSet(set)
		if err := conn.AddSet(set, []nftables.SetElement{{Key: []byte{10, 0, 0, 1}}}); err != nil {
			t.Fatal(err)
		}
	})
	if err := kernel.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, kernel, some())
	expect(t, kernel, some())
}

func TestTableSomebodyRemoved(t *testing.T) {
	kernel := ready(t)
	apply(t, kernel, some())
	edit(t, func(conn *nftables.Conn, table *nftables.Table) { conn.DelTable(table) })

	expect(t, kernel, plan.Plan{}) // also the virtual server: nothing says that it is ours
	done, err := kernel.Apply(t.Context(), plan.Diff(nil, some()))
	if !errors.Is(err, dataplane.ErrNoTable) || len(done) != 0 {
		t.Errorf("done %v, error %v; want none done and ErrNoTable", done, err)
	}
	if err := kernel.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, kernel, some())
	expect(t, kernel, some())
}

func TestIntervalsSomebodyChangedAreRepaired(t *testing.T) {
	kernel := ready(t)
	apply(t, kernel, base())
	edit(t, func(conn *nftables.Conn, table *nftables.Table) {
		conn.FlushSet(&nftables.Set{Table: table, Name: "service-cidr-v4"})
	})
	want := base()
	maps.DeleteFunc(want, func(k plan.Key, _ plan.Value) bool { return k.Kind == plan.ServiceCIDR && !k.IPv6() })
	expect(t, kernel, want)
	apply(t, kernel, base())
	expect(t, kernel, base())
}

func TestManyElements(t *testing.T) {
	kernel := ready(t)
	want := plan.Plan{}
	for i := range 20000 {
		addr := netip.AddrFrom16([16]byte{0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		want[plan.Key{Kind: plan.Reject, Protocol: model.TCP, Addr: addr, Port: 80}] = plan.Value{}
	}
	apply(t, kernel, want)
	expect(t, kernel, want)
	// One element that is not there does not keep the others from being deleted.
	gone := plan.Op{Verb: plan.Delete, Key: plan.Key{Kind: plan.Reject, Protocol: model.UDP, Addr: serviceAddr(true), Port: 1}}
	ops := append(plan.Diff(want, nil), gone)
	done, err := kernel.Apply(t.Context(), ops)
	if err != nil || len(done) != len(ops) {
		t.Errorf("%d of %d done, error %v", len(done), len(ops), err)
	}
	expect(t, kernel, plan.Plan{})
}

func TestSetupTwiceLeavesOneRuleAndCleanupNone(t *testing.T) {
	kernel := ready(t)
	if err := kernel.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if got := routingRules(t, family); got != 1 {
			t.Errorf("family %d: %d rules", family, got)
		}
	}
	if err := kernel.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if got := routingRules(t, family); got != 0 {
			t.Errorf("family %d: %d rules after cleanup", family, got)
		}
	}
	if got := chains(t); len(got) != 0 {
		t.Errorf("chains after cleanup: %v", got)
	}
}

func TestSetupMovesTheRuleOfAnEarlierConfiguration(t *testing.T) {
	ready(t)
	moved, err := dataplane.Open(dataplane.Options{IPv4: true, IPv6: true, DivertMark: 0x400, RulePriority: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer moved.Close()
	if err := moved.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := routingRules(t, netlink.FAMILY_V4); got != 1 {
		t.Errorf("%d rules", got)
	}
}

func TestParametersOfTheKernel(t *testing.T) {
	ready(t)
	for name, want := range map[string]string{
		"net/ipv4/vs/conntrack": "1", "net/ipv4/vs/expire_nodest_conn": "1",
		"net/ipv4/vs/expire_quiescent_template": "1", "net/ipv4/vs/conn_reuse_mode": "1",
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
		"net/netfilter/nf_conntrack_tcp_timeout_close": "0",
	} {
		if got, err := sysctl.Get(name); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", name, got, err, want)
		}
	}
}

// Every scheduler that an annotation may name is one of the kernel, with its flags, and is read back
// as it was written.
func TestEverySchedulerOfTheKernel(t *testing.T) {
	kernel := ready(t)
	service := &model.Service{
		Key: model.ServiceKey{Namespace: "default", Name: "web"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Ports: []model.ServicePort{{Protocol: model.TCP, Port: 80}},
	}
	endpoints := &model.EndpointSlice{
		Name: "web", Service: service.Key, Ports: []model.EndpointPort{{Protocol: model.TCP, Port: 8080}},
		Endpoints: []model.Endpoint{{Addr: netip.MustParseAddr("10.244.1.2"), Ready: true, Serving: true}},
	}
	context := plan.Context{Scheduler: "rr", Marks: plan.NewMarks()}
	have := plan.Plan{}
	for _, scheduler := range []string{
		"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sed", "nq", "fo", "ovf", "twos",
		"sh", "sh,fallback", "sh,port", "sh,fallback,port", "mh", "mh,fallback", "mh,port", "mh,fallback,port",
	} {
		service.Annotations = map[string]string{plan.SchedulerAnnotation: scheduler}
		entry := &state.Service{Service: service, Slices: []*model.EndpointSlice{endpoints}}
		if problems := context.Problems(entry); len(problems) > 0 {
			t.Errorf("%s: %+v", scheduler, problems)
		}
		want := context.Service(entry)
		if _, err := kernel.Apply(t.Context(), plan.Diff(have, want)); err != nil {
			t.Errorf("%s: %v", scheduler, err)
		}
		observed, err := kernel.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), observed.String()); diff != "" {
			t.Errorf("%s (-plan +kernel):\n%s", scheduler, diff)
		}
		have = want
	}
}

func routingRules(t *testing.T, family int) int {
	t.Helper()
	list, err := netlink.RuleListFiltered(family, &netlink.Rule{Table: dataplane.DefaultRouteTable}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func chains(t *testing.T) (names []string) {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	list, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		t.Fatal(err)
	}
	for _, chain := range list {
		names = append(names, chain.Name)
	}
	slices.Sort(names)
	return names
}

// Operators look at the table by nft: its text form must exist (nft 1.0 aborts on some
// rules that the kernel takes).
func TestNftPrintsTheTable(t *testing.T) {
	kernel := ready(t)
	apply(t, kernel, some())
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("missing: the program nft")
	}
	output, err := exec.Command(nft, "list", "table", "inet", "mooring").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, want := range []string{
		"ip daddr . meta l4proto . th dport @divert-v4",
		"update @clients-v6 { ip6 saddr . meta priority timeout 10s : meta mark }",
	} {
		if !strings.Contains(string(output), want) {
			t.Errorf("%q is not in:\n%s", want, output)
		}
	}
}
