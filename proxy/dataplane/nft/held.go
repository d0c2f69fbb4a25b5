package nft

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Connections of the host that kube-proxy has given the Service's own address as their source
// keep it, although it is not the host's any more. Their packets need no route to it; the replies,
// which NAT turns back to it at prerouting, are led to the host by the mark.

// heldName names the set of such addresses.
func heldName(f family) string { return "held" + f.suffix }

// directionReply is IP_CT_DIR_REPLY (nf_conntrack_tuple_common.h).
const directionReply = 1

func replies() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{directionReply}},
	}
}

// Hold has replies to connections from these addresses, and no others, led to the host.
func (t *Table) Hold(ctx context.Context, addresses []netip.Addr) error {
	err := t.do(ctx, func(conn *nftables.Conn) error {
		for _, f := range []family{ipv4, ipv6} {
			var elements []nftables.SetElement
			for _, address := range addresses {
				if address.Is6() == f.ipv6 {
					elements = append(elements, nftables.SetElement{Key: address.AsSlice()})
				}
			}
			if err := t.refill(conn, heldName(f), slices.Clip(elements)); err != nil {
				return err
			}
		}
		return conn.Flush()
	})
	if err != nil {
		return fmt.Errorf("hold %d addresses: %w", len(addresses), err)
	}
	return nil
}

// Held gives these addresses, sorted.
func (t *Table) Held(ctx context.Context) ([]netip.Addr, error) {
	exists, err := t.exists(ctx)
	if err != nil || !exists {
		return nil, err
	}
	var addresses []netip.Addr
	for _, f := range []family{ipv4, ipv6} {
		elements, err := t.elements(ctx, heldName(f))
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			if address, ok := netip.AddrFromSlice(e.Key); ok {
				addresses = append(addresses, address)
			}
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return addresses, nil
}
