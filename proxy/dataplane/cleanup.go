package dataplane

import (
	"context"
	"errors"
	"fmt"

	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/dataplane/kubeproxy"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/takeover"
)

// Retire has kube-proxy lead all new connections, if it serves on this node again, and gives the
// virtual servers of ours that go on leading those that there are; none otherwise.
//
// In mode ipvs it has taken virtual servers back, its addresses lead packets to IPVS without us, and
// only those by firewall mark are not its own, so all our rules go. In the other modes its rules take
// new connections before IPVS does, and ours lead the others there.
func (k *Kernel) Retire(ctx context.Context) (leading []plan.Key, err error) {
	found, err := k.Leftovers(ctx)
	if err != nil {
		return nil, err
	}
	steps := takeover.Decide(found)
	k.mu.Lock()
	defer k.mu.Unlock()
	observed, err := k.observe(ctx, nil)
	if err != nil {
		return nil, classify(err, nil)
	}
	takenBack := false
	var byMark, all []plan.Key
	for key := range observed {
		switch {
		case key.Kind != plan.VirtualServer:
			continue
		case key.Mark != 0:
			byMark = append(byMark, key)
		default:
			takenBack = takenBack || steps.Adopts(key)
		}
		all = append(all, key)
	}
	switch {
	case takenBack:
		return byMark, classify(errors.Join(kubeproxy.Reroute(), k.nft.Silence(ctx)), nil)
	case steps.Translated:
		return all, nil
	}
	return nil, nil
}

// Open counts the TCP and SCTP connections that some virtual servers lead.
func (k *Kernel) Open(ctx context.Context, virtualServers []plan.Key) (open int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range virtualServers {
		_, counts, err := k.ipvs.RealServers(ctx, key)
		if err != nil && !errors.Is(err, ipvs.ErrNoVirtualServer) {
			return 0, classify(err, nil)
		}
		for _, count := range counts {
			open += int(count.Active)
		}
	}
	return open, nil
}

// Cleanup removes the virtual servers that are ours, the nftables table, the routing
// rule and its table, and nothing else. Virtual servers that kube-proxy has taken back since
// stay: their addresses are on its device, or their ports among its NodePorts.
//
// Connections of those that are removed end: the kernel lets go of them itself then, and has
// conntrack forget them, since net/ipv4/vs/expire_nodest_conn is set (ip_vs_conn.c, Linux 5.9). Who
// serves the address afterwards, with rules of NAT, leads their next packet to an endpoint, which
// resets a connection that it does not know.
func (k *Kernel) Cleanup(ctx context.Context) error {
	found, err := k.Leftovers(ctx)
	if err != nil {
		return err
	}
	steps := takeover.Decide(found)
	k.mu.Lock()
	defer k.mu.Unlock()
	observed, err := k.observe(ctx, nil)
	if err != nil {
		return err
	}
	var ops []plan.Op
	for key := range observed {
		if key.Kind == plan.VirtualServer && !steps.Adopts(key) {
			ops = append(ops, plan.Op{Verb: plan.Delete, Key: key})
		}
	}
	for i, err := range k.ipvs.Do(ctx, ops...) {
		if err != nil {
			// The table stays, and with it the knowledge what is ours.
			return fmt.Errorf("%s: %w", ops[i], err)
		}
	}
	return errors.Join(kubeproxy.Reroute(), kubeproxy.RemoveDevice(takeover.HeldDevice), k.nft.Cleanup(ctx), k.divert.Cleanup())
}
