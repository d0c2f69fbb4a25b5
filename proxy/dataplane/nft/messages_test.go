package nft

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// What one change costs is counted in messages: one for each set that changes, between
// the two that bound a transaction.
func TestMessagesOfATransaction(t *testing.T) {
	port := func(kind plan.Kind, number uint16) plan.Key {
		return plan.Key{Kind: kind, Protocol: model.TCP, Addr: netip.MustParseAddr("10.96.0.10"), Port: number}
	}
	var many []plan.Key
	for number := range uint16(2500) {
		many = append(many, port(plan.Divert, number))
	}
	for name, test := range map[string]struct {
		keys []plan.Key
		want int
	}{
		"one element":                 {[]plan.Key{port(plan.Divert, 80)}, 3},
		"three ports of one Service":  {[]plan.Key{port(plan.Divert, 1), port(plan.Divert, 2), port(plan.Divert, 3)}, 3},
		"one Service, two sets":       {[]plan.Key{port(plan.Divert, 80), port(plan.Owned, 80)}, 4},
		"as much as a message holds":  {many[:1000], 3},
		"more than one message holds": {many, 5},
	} {
		t.Run(name, func(t *testing.T) {
			var got int
			objects := plan.Plan{}
			for _, key := range test.keys {
				objects[key] = plan.Value{}
			}
			conn, err := nftables.New(nftables.WithTestDial(func(requests []netlink.Message) ([]netlink.Message, error) {
				got += len(requests)
				return acknowledge(requests), nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			if err := New(Config{Mark: 1}, 0).addElements(conn, objects); err != nil {
				t.Fatal(err)
			}
			if err := conn.Flush(); err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("%d messages, want %d", got, test.want)
			}
		})
	}
}

// acknowledge answers requests the way the kernel does when all is well.
func acknowledge(requests []netlink.Message) (replies []netlink.Message) {
	for _, request := range requests {
		if request.Header.Flags&netlink.Acknowledge == 0 {
			continue
		}
		reply := netlink.Message{Header: request.Header, Data: make([]byte, 4)}
		reply.Header.Type = netlink.Error
		replies = append(replies, reply)
	}
	return replies
}
