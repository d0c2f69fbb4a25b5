package nft

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
)

// Client is where a client of a group goes: to the endpoint of the pin that has a mark.
type Client struct {
	Address    netip.Addr
	Group, Pin uint32
	// Left is for how long it is remembered yet.
	Left time.Duration
}

// Remember notes clients that have been at an endpoint before we were there.
func (t *Table) Remember(ctx context.Context, clients []Client) error {
	err := t.do(ctx, func(conn *nftables.Conn) error {
		for _, f := range []family{ipv4, ipv6} {
			var elements []nftables.SetElement
			for _, c := range clients {
				if c.Address.Is6() == f.ipv6 {
					elements = append(elements, nftables.SetElement{
						Key: binary.NativeEndian.AppendUint32(c.Address.AsSlice(), c.Group), Val: binary.NativeEndian.AppendUint32(nil, c.Pin), Timeout: c.Left,
					})
				}
			}
			for chunk := range slices.Chunk(elements, elementsPerMessage) {
				if err := conn.SetAddElements(t.sets[clientsName(f)], chunk); err != nil {
					return err
				}
			}
		}
		return conn.Flush()
	})
	if err != nil {
		return fmt.Errorf("remember %d clients: %w", len(clients), err)
	}
	return nil
}
