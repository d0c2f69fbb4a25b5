package ipvs

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	moby "github.com/moby/ipvs"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// handle is what oneByOne needs of github.com/moby/ipvs.
type handle interface {
	GetServices() ([]*moby.Service, error)
	GetService(*moby.Service) (*moby.Service, error)
	NewService(*moby.Service) error
	UpdateService(*moby.Service) error
	DelService(*moby.Service) error
	GetDestinations(*moby.Service) ([]*moby.Destination, error)
	NewDestination(*moby.Service, *moby.Destination) error
	UpdateDestination(*moby.Service, *moby.Destination) error
	DelDestination(*moby.Service, *moby.Destination) error
	SetConfig(*moby.Config) error
	Close()
}

// oneByOne is the connection of github.com/moby/ipvs. That waits for a lost acknowledgement for
// ever, so each call runs on a goroutine, and a socket whose call did not end in time is closed
// (which ends that goroutine) and replaced.
type oneByOne struct {
	dial    func() (handle, error)
	timeout time.Duration
	logger  *slog.Logger
	handle  handle
}

// OpenMoby opens the socket of github.com/moby/ipvs. The kernel must have the generic netlink
// family IPVS already: see Available. Each later operation may take timeout.
func OpenMoby(timeout time.Duration, logger *slog.Logger) (*Table, error) {
	return openMoby(func() (handle, error) { return moby.New("") }, timeout, logger)
}

func openMoby(dial func() (handle, error), timeout time.Duration, logger *slog.Logger) (*Table, error) {
	o := &oneByOne{dial: dial, timeout: timeout, logger: logger}
	if err := o.reopen(); err != nil {
		return nil, err
	}
	return &Table{o}, nil
}

// Close implements connection.
func (o *oneByOne) Close() {
	if o.handle != nil {
		o.handle.Close()
		o.handle = nil
	}
}

// SetTimeouts implements connection.
func (o *oneByOne) SetTimeouts(ctx context.Context, tcp, tcpFin, udp time.Duration) error {
	if tcp == 0 && tcpFin == 0 && udp == 0 {
		return nil
	}
	config := &moby.Config{TimeoutTCP: tcp, TimeoutTCPFin: tcpFin, TimeoutUDP: udp}
	return o.do(ctx, func(h handle) error { return h.SetConfig(config) })
}

// do makes one call within the deadline.
func (o *oneByOne) do(ctx context.Context, call func(handle) error) error {
	_, err := get(ctx, o, func(h handle) (struct{}, error) { return struct{}{}, call(h) })
	return err
}

// get makes one call within the deadline and gives its result. The goroutine that
// waits hands its result over a buffered channel, so that nobody has to take it.
func get[T any](ctx context.Context, o *oneByOne, call func(handle) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := o.reopen(); err != nil {
		return none, err
	}
	h, done := o.handle, make(chan result, 1)
	go func() {
		value, err := call(h)
		done <- result{value, err}
	}()
	timer := time.NewTimer(o.timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
		o.abandon()
		return none, fmt.Errorf("%w after %s", ErrTimeout, o.timeout)
	case <-ctx.Done():
		o.abandon()
		return none, ctx.Err()
	}
}

// abandon gives up the socket a call is stuck on. Closing it makes the call return.
func (o *oneByOne) abandon() {
	o.logger.Warn("ipvs: call not acknowledged, opening a new socket", "timeout", o.timeout)
	o.Close()
}

func (o *oneByOne) reopen() error {
	if o.handle != nil {
		return nil
	}
	h, err := o.dial()
	if err != nil {
		return fmt.Errorf("ipvs socket: %w", err)
	}
	o.handle = h
	return nil
}

// VirtualServers implements connection.
func (o *oneByOne) VirtualServers(ctx context.Context) (plan.Plan, error) {
	services, err := get(ctx, o, handle.GetServices)
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

// Find implements connection.
func (o *oneByOne) Find(ctx context.Context, virtual []plan.Key) (plan.Plan, error) {
	result := make(plan.Plan, len(virtual))
	for _, key := range virtual {
		found, err := get(ctx, o, func(h handle) (*moby.Service, error) {
			return h.GetService(service(key, plan.Value{}))
		})
		if is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", key, err)
		}
		result[key] = virtualServerValue(found)
	}
	return result, nil
}

// RealServers implements connection.
func (o *oneByOne) RealServers(ctx context.Context, virtual plan.Key) (plan.Plan, map[plan.Key]Connections, error) {
	destinations, err := get(ctx, o, func(h handle) ([]*moby.Destination, error) {
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
			Forward: plan.Forward(d.ConnectionFlags & forwardMask),
		}
		counts[key] = Connections{
			Active: uint32(d.ActiveConnections), Inactive: uint32(d.InactiveConnections),
			Counters: Counters{
				Connections: uint64(d.Stats.Connections), PacketsIn: uint64(d.Stats.PacketsIn), PacketsOut: uint64(d.Stats.PacketsOut),
				BytesIn: d.Stats.BytesIn, BytesOut: d.Stats.BytesOut,
			},
		}
	}
	return servers, counts, nil
}

// send implements connection.
func (o *oneByOne) send(ctx context.Context, requests []request) []error {
	errs := make([]error, len(requests))
	for i, r := range requests {
		errs[i] = o.do(ctx, r.call)
	}
	return errs
}

// call makes the request.
func (r request) call(h handle) error {
	virtual, real := service(r.key, r.value), destination(r.key, r.value)
	switch {
	case r.key.Kind == plan.VirtualServer && r.verb == plan.Add:
		return h.NewService(virtual)
	case r.key.Kind == plan.VirtualServer && r.verb == plan.Update:
		return h.UpdateService(virtual)
	case r.key.Kind == plan.VirtualServer:
		return h.DelService(virtual)
	case r.verb == plan.Add:
		return h.NewDestination(virtual, real)
	case r.verb == plan.Update:
		return h.UpdateDestination(virtual, real)
	default:
		return h.DelDestination(virtual, real)
	}
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
