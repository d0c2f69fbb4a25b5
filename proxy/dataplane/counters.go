package dataplane

import (
	"context"
	"errors"
	"slices"

	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/plan"
)

// atOnce is how many virtual servers are read before others may use the data plane.
const atOnce = 16

// Counters calls visit with each real server of ours and what it holds and has held. Changes go on
// meanwhile.
func (k *Kernel) Counters(ctx context.Context, visit func(server plan.Key, holds ipvs.Connections)) error {
	servers, err := k.virtualServers(ctx)
	if err != nil {
		return err
	}
	keys := make([]plan.Key, 0, len(servers))
	for key := range servers {
		keys = append(keys, key)
	}
	for part := range slices.Chunk(keys, atOnce) {
		if err := k.count(ctx, part, visit); err != nil {
			return err
		}
	}
	return nil
}

// virtualServers gives those that are ours.
func (k *Kernel) virtualServers(ctx context.Context) (plan.Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	owned, err := k.nft.ObserveKinds(ctx, plan.Owned, plan.OwnedMark)
	if err != nil {
		return nil, err
	}
	return k.ours(ctx, owned)
}

func (k *Kernel) count(ctx context.Context, servers []plan.Key, visit func(plan.Key, ipvs.Connections)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, server := range servers {
		_, holds, err := k.ipvs.RealServers(ctx, server)
		if errors.Is(err, ipvs.ErrNoVirtualServer) {
			continue
		}
		if err != nil {
			return err
		}
		for key, held := range holds {
			visit(key, held)
		}
	}
	return nil
}
