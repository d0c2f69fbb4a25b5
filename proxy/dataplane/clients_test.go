package dataplane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/dataplane/nft"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestClientsAreKeptWhereTheyWere(t *testing.T) {
	const group, mark = 0x02000001, 0x03000001
	client := netip.MustParseAddr("10.244.1.2")
	web, other := netip.MustParseAddrPort("10.96.0.10:80"), netip.MustParseAddrPort("10.96.0.11:80")
	serving, gone := netip.MustParseAddrPort("10.244.1.3:8080"), netip.MustParseAddrPort("10.244.1.4:8080")
	pin := plan.MarkKey(plan.Pin, group, false)
	pin.Endpoint = serving
	ops := []plan.Op{
		{Verb: plan.Add, Key: pin, Value: plan.Value{Mark: mark}},
		{Verb: plan.Add, Key: plan.MarkKey(plan.AffinityTimeout, group, false), Value: plan.Value{Timeout: 60}},
		{Verb: plan.Add, Key: plan.Key{Kind: plan.Affinity, Protocol: model.TCP, Addr: web.Addr(), Port: web.Port()}, Value: plan.Value{Mark: group}},
	}
	template := func(virtual, real netip.AddrPort, left time.Duration) ipvs.Template {
		return ipvs.Template{Protocol: model.TCP, Client: client, Virtual: virtual, Real: real, Left: left}
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	for _, test := range []struct {
		name     string
		template ipvs.Template
		want     []nft.Client
		rest     int
	}{
		{"its endpoint serves", template(web, serving, 20*time.Second), []nft.Client{{Address: client, Group: group, Pin: mark, Left: 20 * time.Second}}, 0},
		{"a longer time than the Service's now", template(web, serving, time.Hour), []nft.Client{{Address: client, Group: group, Pin: mark, Left: time.Minute}}, 0},
		{"its endpoint is gone", template(web, gone, time.Minute), nil, 0},
		{"it has expired", template(web, serving, 0), nil, 0},
		{"another Service's", template(other, serving, time.Minute), nil, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			clients, rest := clientsOf([]ipvs.Template{test.template}, ops)
			if diff := cmp.Diff(test.want, clients, same); diff != "" || len(rest) != test.rest {
				t.Errorf("%d templates left, clients (-want +got):\n%s", len(rest), diff)
			}
		})
	}
}
