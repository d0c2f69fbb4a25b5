package dataplane

import (
	"context"
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/dataplane/kubeproxy"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/takeover"
)

// Leftovers finds what kube-proxy has left in the kernel. It changes nothing.
func (k *Kernel) Leftovers(ctx context.Context) (takeover.Found, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	held, err := k.nft.Held(ctx)
	if err != nil {
		return takeover.Found{}, classify(err, nil)
	}
	found, err := kubeproxy.Look(ctx, held)
	if err != nil {
		return found, classify(err, nil)
	}
	servers, err := k.ipvs.VirtualServers(ctx)
	if err != nil {
		return found, classify(err, nil)
	}
	for key := range servers {
		found.VirtualServers = append(found.VirtualServers, key)
	}
	return found, nil
}

// Adopt records virtual servers that kube-proxy has made as ours. They stay as they are, with
// their connections, and Observe reports them from now on. What it has led to endpoints by NAT is
// left to conntrack. Setup has to come first.
func (k *Kernel) Adopt(ctx context.Context, steps takeover.Steps) error {
	ops := make([]plan.Op, 0, len(steps.Adopt))
	for _, server := range steps.Adopt {
		ops = append(ops, plan.Op{Verb: plan.Add, Key: server.OwnedKey()})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.translated = k.translated || steps.Translated
	var err error
	if k.templates, err = templatesOf(steps.Adopt); err != nil {
		return err
	}
	_, err = k.nft.Apply(ctx, ops)
	return classify(err, nil)
}

// templatesOf gives the templates of some virtual servers, which are sorted.
func templatesOf(servers []plan.Key) ([]ipvs.Template, error) {
	if len(servers) == 0 {
		return nil, nil
	}
	templates, err := ipvs.Templates()
	return slices.DeleteFunc(templates, func(t ipvs.Template) bool {
		server := plan.Key{Kind: plan.VirtualServer, Protocol: t.Protocol, Addr: t.Virtual.Addr(), Port: t.Virtual.Port()}
		_, is := slices.BinarySearchFunc(servers, server, plan.Key.Compare)
		return !is
	}), err
}

// ObserveAdopted reads the kernel back as it would be after Adopt.
func (k *Kernel) ObserveAdopted(ctx context.Context, servers []plan.Key) (plan.Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	owned := plan.Plan{}
	for _, server := range servers {
		owned[server.OwnedKey()] = plan.Value{}
	}
	return k.observe(ctx, owned)
}

// Divert takes the addresses on kube-proxy's device from the host's routing, so that what goes to
// them takes our way. Connections of the host from one of them go on as long as it is on
// a device and among those held.
func (k *Kernel) Divert(ctx context.Context, held []netip.Addr) error {
	if err := k.hold(ctx, held); err != nil {
		return err
	}
	return classify(kubeproxy.Unroute(takeover.Device), nil)
}

// RemoveLeftovers takes away what is to go of kube-proxy's.
func (k *Kernel) RemoveLeftovers(ctx context.Context, steps takeover.Steps) error {
	return classify(kubeproxy.Remove(ctx, steps), nil)
}

// Release takes addresses from our device; those held are the rest. With the last the device goes.
func (k *Kernel) Release(ctx context.Context, addresses, held []netip.Addr) error {
	release := func() error { return kubeproxy.Release(addresses) }
	if len(held) == 0 {
		release = func() error { return kubeproxy.RemoveDevice(takeover.HeldDevice) }
	}
	if err := release(); err != nil {
		return classify(err, nil)
	}
	return k.hold(ctx, held)
}

func (k *Kernel) hold(ctx context.Context, addresses []netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return classify(k.nft.Hold(ctx, addresses), nil)
}
