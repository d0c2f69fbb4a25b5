package ipvs

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"syscall"

	moby "github.com/moby/ipvs"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

const (
	// flagHashed is IP_VS_SVC_F_HASHED: the kernel's own note that a service is in
	// its hash table (ip_vs.h).
	flagHashed = 0x2
	// noNetmask makes persistence look at the client's whole address. IPv4 has a
	// mask there, IPv6 a prefix length (ip_vs_genl_parse_service, ip_vs_ctl.c).
	noNetmask4, noNetmask6 = 0xffffffff, 128
	// maxWeight is what moby/ipvs can read back (it cuts the kernel's 32 bits to 16).
	maxWeight = math.MaxUint16
)

// Connections counts what a real server holds.
type Connections struct{ Active, Inactive uint32 }

// VirtualServers lists every virtual server in the network namespace, also those of
// other software.
func (t *Table) VirtualServers(ctx context.Context) (plan.Plan, error) {
	services, err := get(ctx, t, handle.GetServices)
	if err != nil {
		return nil, fmt.Errorf("list virtual servers: %w", err)
	}
	result := make(plan.Plan, len(services))
	for _, s := range services {
		if key, ok := virtualServerKey(s); ok {
			result[key] = virtualServerValue(s)
		}
	}
	return result, nil
}

// RealServers lists the real servers of one virtual server, with the connections
// each one holds.
func (t *Table) RealServers(ctx context.Context, virtual plan.Key) (plan.Plan, map[plan.Key]Connections, error) {
	destinations, err := get(ctx, t, func(h handle) ([]*moby.Destination, error) {
		return h.GetDestinations(service(virtual, plan.Value{}))
	})
	if is(err, syscall.ESRCH, syscall.ENOENT) {
		err = ErrNoVirtualServer
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list real servers of %s: %w", virtual, err)
	}
	servers := make(plan.Plan, len(destinations))
	counts := make(map[plan.Key]Connections, len(destinations))
	for _, d := range destinations {
		addr, ok := netip.AddrFromSlice(d.Address)
		if !ok {
			continue
		}
		key := virtual
		key.Kind, key.Endpoint = plan.RealServer, netip.AddrPortFrom(addr, d.Port)
		servers[key] = plan.Value{
			Weight:  uint32(d.Weight),
			Forward: plan.Forward(d.ConnectionFlags & moby.ConnectionFlagFwdMask),
		}
		counts[key] = Connections{Active: uint32(d.ActiveConnections), Inactive: uint32(d.InactiveConnections)}
	}
	return servers, counts, nil
}

// Do applies one operation on a virtual or a real server. Adding what exists updates
// it, updating what does not exist adds it, deleting what does not exist is no error.
func (t *Table) Do(ctx context.Context, op plan.Op) error {
	switch op.Key.Kind {
	case plan.VirtualServer:
		return t.doVirtualServer(ctx, op)
	case plan.RealServer:
		return t.doRealServer(ctx, op)
	}
	return fmt.Errorf("ipvs has no objects of kind %s", op.Key.Kind)
}

func (t *Table) doVirtualServer(ctx context.Context, op plan.Op) error {
	s := service(op.Key, op.Value)
	add := func() error { return t.do(ctx, func(h handle) error { return h.NewService(s) }) }
	update := func() error { return t.do(ctx, func(h handle) error { return h.UpdateService(s) }) }
	if op.Verb == plan.Delete {
		err := t.do(ctx, func(h handle) error { return h.DelService(s) })
		if is(err, syscall.ESRCH, syscall.ENOENT) {
			return nil
		}
		return err
	}
	return schedulerMissing(upsert(op.Verb, add, update, syscall.ESRCH), op.Value.Scheduler)
}

func (t *Table) doRealServer(ctx context.Context, op plan.Op) error {
	if op.Value.Weight > maxWeight {
		return fmt.Errorf("weight %d: at most %d can be read back", op.Value.Weight, maxWeight)
	}
	s, d := service(op.Key, plan.Value{}), destination(op.Key, op.Value)
	add := func() error { return t.do(ctx, func(h handle) error { return h.NewDestination(s, d) }) }
	update := func() error { return t.do(ctx, func(h handle) error { return h.UpdateDestination(s, d) }) }
	if op.Verb == plan.Delete {
		err := t.do(ctx, func(h handle) error { return h.DelDestination(s, d) })
		if is(err, syscall.ENOENT, syscall.ESRCH) {
			return nil
		}
		return err
	}
	err := upsert(op.Verb, add, update, syscall.ENOENT)
	if is(err, syscall.ESRCH) {
		return ErrNoVirtualServer
	}
	return err
}

// upsert makes an object exist with its value, trying first what the verb says.
func upsert(verb plan.Verb, add, update func() error, absent syscall.Errno) error {
	if verb == plan.Add {
		if err := add(); !is(err, syscall.EEXIST) {
			return err
		}
		return update()
	}
	if err := update(); !is(err, absent) {
		return err
	}
	return add()
}

// schedulerMissing names the module behind the kernel's bare ENOENT.
func schedulerMissing(err error, scheduler string) error {
	if is(err, syscall.ENOENT) {
		return fmt.Errorf("scheduler %q is not in the kernel (modprobe ip_vs_%s): %w", scheduler, scheduler, err)
	}
	return err
}

func service(key plan.Key, value plan.Value) *moby.Service {
	s := &moby.Service{
		AddressFamily: syscall.AF_INET,
		Protocol:      uint16(key.Protocol),
		Address:       net.IP(key.Addr.AsSlice()),
		Port:          key.Port,
		SchedName:     value.Scheduler,
		Flags:         value.Flags,
		Timeout:       value.Persistence,
		Netmask:       noNetmask4,
		FWMark:        key.Mark,
	}
	if key.Addr.Is6() {
		s.AddressFamily, s.Netmask = syscall.AF_INET6, noNetmask6
	}
	return s
}

func destination(key plan.Key, value plan.Value) *moby.Destination {
	return &moby.Destination{
		Address:         net.IP(key.Endpoint.Addr().AsSlice()),
		Port:            key.Endpoint.Port(),
		Weight:          int(value.Weight),
		ConnectionFlags: uint32(value.Forward),
	}
}

func virtualServerKey(s *moby.Service) (plan.Key, bool) {
	if s.FWMark != 0 {
		return plan.MarkKey(plan.VirtualServer, s.FWMark, s.AddressFamily == syscall.AF_INET6), true
	}
	addr, ok := netip.AddrFromSlice(s.Address)
	return plan.Key{
		Kind: plan.VirtualServer, Protocol: model.Protocol(s.Protocol), Addr: addr, Port: s.Port,
	}, ok
}

func virtualServerValue(s *moby.Service) plan.Value {
	return plan.Value{Scheduler: s.SchedName, Flags: s.Flags &^ flagHashed, Persistence: s.Timeout}
}
