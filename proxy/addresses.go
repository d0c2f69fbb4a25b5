package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane/address"
	"github.com/mooring-project/mooring/proxy/takeover"
)

// addresses knows the host's addresses as they come and go, and those of them that serve
// NodePorts. It is safe for concurrent use.
type addresses struct {
	allowed config.NodePortAddresses
	// nodeIP, if valid, goes before the Node object's address of its family.
	nodeIP netip.Addr
	logger *slog.Logger

	// mu guards found.
	mu    sync.Mutex
	found []netip.Addr
}

func newAddresses(c config.Config, logger *slog.Logger) (*addresses, error) {
	a := &addresses{allowed: c.NodePortAddresses, nodeIP: c.NodeIP, logger: logger}
	return a, a.read()
}

// read looks at all interfaces.
func (a *addresses) read() error {
	// These devices have addresses of Services, which are not the node's.
	found, err := address.List(takeover.Device, takeover.HeldDevice)
	if err != nil {
		return fmt.Errorf("addresses of the node: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found = reachable(found)
	return nil
}

// reachable keeps the addresses that others can reach: no loopback, no link-local ones. They
// are sorted.
func reachable(found []net.Addr) []netip.Addr {
	var result []netip.Addr
	for _, text := range found {
		prefix, err := netip.ParsePrefix(text.String())
		if err != nil {
			continue // not an IP address
		}
		if ip := prefix.Addr().Unmap(); ip.IsGlobalUnicast() {
			result = append(result, ip)
		}
	}
	slices.SortFunc(result, netip.Addr.Compare)
	return slices.Compact(result)
}

// nodePorts gives the addresses that serve NodePorts, sorted; node is nil if there is none.
func (a *addresses) nodePorts(node *model.Node) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	primary := primaryAddresses(node, a.nodeIP)
	var selected []netip.Addr
	for _, ip := range a.found {
		if a.allowed.Allows(ip, primary) {
			selected = append(selected, ip)
		}
	}
	return selected
}

// has tells whether an address is the host's.
func (a *addresses) has(ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.found, ip)
}

// primaryAddresses gives the node's first address of each family, internal ones before external
// ones as the Node object lists them; given, if valid, replaces that of its family.
func primaryAddresses(node *model.Node, given netip.Addr) []netip.Addr {
	var primary []netip.Addr
	add := func(ip netip.Addr) {
		has := func(other netip.Addr) bool { return other.Is6() == ip.Is6() }
		if ip.IsValid() && !slices.ContainsFunc(primary, has) {
			primary = append(primary, ip)
		}
	}
	add(given)
	if node != nil {
		for _, ip := range node.Addresses {
			add(ip)
		}
	}
	return primary
}

// watchAgain is the wait before the kernel is asked again for its messages.
const watchAgain = time.Second

// follow reads the addresses again when the kernel says that they have changed, and calls
// changed then, until ctx ends.
func (a *addresses) follow(ctx context.Context, changed func()) {
	reread := func() {
		if err := a.read(); err != nil {
			a.logger.Error("addresses not read", "err", err)
		}
		changed()
	}
	for {
		if err := address.Watch(ctx, reread); err != nil {
			a.logger.Error("changes of addresses not watched", "err", err, "retry", watchAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchAgain):
		}
	}
}
