package dataplane

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/dataplane/nft"
	"github.com/mooring-project/mooring/proxy/plan"
)

// Clients that IPVS has kept at an endpoint for kube-proxy are kept there on: what it remembers of
// them is put into our map before the virtual server becomes one that does not.

// keepClients does so for the addresses whose groups are among operations that are about to be
// done, and then forgets what it knew of them.
func (k *Kernel) keepClients(ctx context.Context, ops []plan.Op) {
	clients, rest := clientsOf(k.templates, ops)
	if len(clients) == 0 {
		return
	}
	k.templates = rest
	if err := k.nft.Remember(ctx, clients); err != nil {
		k.options.Logger.Warn("clients that kube-proxy kept at an endpoint may get another one", slog.Any("err", err))
		return
	}
	k.options.Logger.Info("clients are kept at their endpoints", "clients", len(clients))
}

// clientsOf gives the clients that templates tell of, where operations give their address a group, and
// their endpoint a pin of that group; and the templates of other addresses.
func clientsOf(templates []ipvs.Template, ops []plan.Op) (clients []nft.Client, rest []ipvs.Template) {
	if len(templates) == 0 {
		return nil, nil
	}
	type pinned struct {
		group    uint32
		endpoint netip.AddrPort
	}
	groups, pins, timeouts := map[plan.Key]uint32{}, map[pinned]uint32{}, map[uint32]uint32{}
	for _, op := range ops {
		switch {
		case op.Verb == plan.Delete:
		case op.Key.Kind == plan.Affinity:
			groups[op.Key.VirtualServerKey()] = op.Value.Mark
		case op.Key.Kind == plan.Pin:
			pins[pinned{op.Key.Mark, op.Key.Endpoint}] = op.Value.Mark
		case op.Key.Kind == plan.AffinityTimeout:
			timeouts[op.Key.Mark] = op.Value.Timeout
		}
	}
	for _, t := range templates {
		server := plan.Key{Kind: plan.VirtualServer, Protocol: t.Protocol, Addr: t.Virtual.Addr(), Port: t.Virtual.Port()}
		group, grouped := groups[server]
		if !grouped {
			rest = append(rest, t)
			continue
		}
		pin, serves := pins[pinned{group, t.Real}]
		left := min(t.Left, time.Duration(timeouts[group])*time.Second)
		if serves && left > 0 {
			clients = append(clients, nft.Client{Address: t.Client, Group: group, Pin: pin, Left: left})
		}
	}
	return clients, rest
}
