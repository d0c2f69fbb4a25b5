// Package fake is a data plane in memory, for the tests of others. It passes the same
// contract as the kernel.
package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/mooring-project/mooring/proxy/plan"
)

// Dataplane is a data plane in memory. The zero value is a fresh kernel. It may be used
// concurrently.
type Dataplane struct {
	mu sync.Mutex
	// objects holds everything, also the servers that are not ours.
	objects     plan.Plan
	connections map[plan.Key]uint32
	refused     map[plan.Key]error
	// listed are the objects that the next parts have.
	listed []plan.Key
}

// schedulers are those the fake kernel has.
var schedulers = []string{"rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh"}

// Setup does nothing: there is nothing besides the objects.
func (d *Dataplane) Setup(ctx context.Context) error { return ctx.Err() }

// Close does nothing.
func (d *Dataplane) Close() error { return nil }

// Refuse makes every operation on an object fail with err; nil ends that.
func (d *Dataplane) Refuse(key plan.Key, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused == nil {
		d.refused = map[plan.Key]error{}
	}
	d.refused[key] = err
}

// SetConnections says how many connections a real server holds.
func (d *Dataplane) SetConnections(server plan.Key, count uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.connections == nil {
		d.connections = map[plan.Key]uint32{}
	}
	d.connections[server] = count
}

// Foreign does an operation behind the back of Apply: a test's drift, or a server of
// other software.
func (d *Dataplane) Foreign(op plan.Op) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.do(op)
}

// Servers gives all virtual servers, whoever's they are.
func (d *Dataplane) Servers() (plan.Plan, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	servers := maps.Clone(d.objects)
	maps.DeleteFunc(servers, func(k plan.Key, _ plan.Value) bool { return k.Kind != plan.VirtualServer })
	return servers, nil
}

// Observe gives what is ours.
func (d *Dataplane) Observe(ctx context.Context) (plan.Plan, error) { return d.observe(ctx, d.ours) }

// partObjects is how many objects a part has.
const partObjects = 3

// ObservePart gives the next objects of a kind, if that is one of elements.
func (d *Dataplane) ObservePart(ctx context.Context, kind plan.Kind, first bool) (plan.Plan, bool, error) {
	if first {
		all, err := d.observe(ctx, func(key plan.Key) bool { return key.Kind == kind && !isServer(key) })
		if err != nil {
			return nil, false, err
		}
		d.mu.Lock()
		d.listed = slices.SortedFunc(maps.Keys(all), plan.Key.Compare)
		d.mu.Unlock()
	}
	d.mu.Lock()
	part := d.listed[:min(partObjects, len(d.listed))]
	d.listed = d.listed[len(part):]
	more := len(d.listed) > 0
	d.mu.Unlock()
	observed, err := d.ObserveElements(ctx, part)
	return observed, more, err
}

// ObserveElements gives those of some objects that exist.
func (d *Dataplane) ObserveElements(ctx context.Context, elements []plan.Key) (plan.Plan, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	result := plan.Plan{}
	for _, key := range elements {
		if value, is := d.objects[key]; is {
			result[key] = value
		}
	}
	return result, ctx.Err()
}

// ObserveServers gives some virtual servers, whoever's they are, with their real servers.
func (d *Dataplane) ObserveServers(ctx context.Context, virtualServers []plan.Key) (plan.Plan, error) {
	return d.observe(ctx, func(key plan.Key) bool {
		return isServer(key) && slices.Contains(virtualServers, key.VirtualServerKey())
	})
}

// observe gives the objects that are asked for.
func (d *Dataplane) observe(ctx context.Context, which func(plan.Key) bool) (plan.Plan, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	result := plan.Plan{}
	for key, value := range d.objects {
		if which(key) {
			result[key] = value
		}
	}
	return result, ctx.Err()
}

func (d *Dataplane) ours(key plan.Key) bool {
	if !isServer(key) {
		return true
	}
	_, owned := d.objects[key.OwnedKey()]
	return owned
}

// Apply does operations in order and goes on after one that fails.
func (d *Dataplane) Apply(ctx context.Context, ops []plan.Op) (done []plan.Op, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, op := range ops {
		err := ctx.Err()
		if err == nil {
			err = d.do(op)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", op, err))
			continue
		}
		done = append(done, op)
	}
	return done, errors.Join(errs...)
}

func (d *Dataplane) do(op plan.Op) error {
	if err := d.check(op); err != nil {
		return err
	}
	if d.objects == nil {
		d.objects = plan.Plan{}
	}
	d.objects.Record(op)
	if op.Verb == plan.Delete && op.Key.Kind == plan.VirtualServer {
		maps.DeleteFunc(d.objects, func(k plan.Key, _ plan.Value) bool {
			return k.Kind == plan.RealServer && k.VirtualServerKey() == op.Key
		})
	}
	return nil
}

// check refuses what the kernel would refuse.
func (d *Dataplane) check(op plan.Op) error {
	if err := d.refused[op.Key]; err != nil {
		return err
	}
	_, server := d.objects[op.Key.VirtualServerKey()]
	switch {
	case op.Key.Kind == plan.Relay:
		return errors.New("relay: not an object of the kernel's data plane")
	case op.Verb == plan.Delete && op.Key == op.Key.OwnedKey() && server:
		return errors.New("not tried: its virtual server is still there")
	case op.Verb == plan.Delete:
		return nil
	case op.Key.Kind == plan.VirtualServer && !slices.Contains(schedulers, op.Value.Scheduler):
		return &plan.Refusal{Op: op, Err: fmt.Errorf("scheduler %q is not in the kernel", op.Value.Scheduler), NoScheduler: true}
	case op.Key.Kind == plan.RealServer && server && op.Key.Endpoint.Addr().IsMulticast():
		return &plan.Refusal{Op: op, Err: errors.New("invalid argument")}
	case op.Key.Kind == plan.RealServer && !server:
		return errors.New("no such virtual server")
	}
	return nil
}

// Connections gives the connections of the real servers of virtual servers.
func (d *Dataplane) Connections(ctx context.Context, virtualServers []plan.Key) (map[plan.Key]uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	result := map[plan.Key]uint32{}
	for key := range d.objects {
		if key.Kind == plan.RealServer && slices.Contains(virtualServers, key.VirtualServerKey()) {
			result[key] = d.connections[key]
		}
	}
	return result, ctx.Err()
}

// Cleanup removes what is ours.
func (d *Dataplane) Cleanup(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	foreign := plan.Plan{}
	for key, value := range d.objects {
		if !d.ours(key) {
			foreign[key] = value
		}
	}
	d.objects = foreign
	return ctx.Err()
}

func isServer(key plan.Key) bool {
	return key.Kind == plan.VirtualServer || key.Kind == plan.RealServer
}
