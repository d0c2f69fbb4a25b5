package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"syscall"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/dataplane/conntrack"
	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/dataplane/nft"
	"github.com/mooring-project/mooring/proxy/plan"
)

// ErrNotHere says that objects of a kind are kept by something else (plan.Relay is a
// socket of the process, not an object of the kernel).
var ErrNotHere = errors.New("not an object of the kernel's data plane")

// Reasons why an operation was not tried.
var (
	errNotRecorded = errors.New("not tried: it could not be recorded as ours")
	errStillThere  = errors.New("not tried: its virtual server is still there")
)

// Observe reads the kernel back: elements of our sets, and the virtual servers that are
// ours with their real servers.
func (k *Kernel) Observe(ctx context.Context) (plan.Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.observe(ctx, nil)
}

// observe reads the kernel back; more of it counts as ours than our table says.
func (k *Kernel) observe(ctx context.Context, more plan.Plan) (plan.Plan, error) {
	result, err := k.nft.Observe(ctx)
	if err != nil {
		return nil, err
	}
	maps.Copy(result, more)
	ours, err := k.ours(ctx, result)
	if err != nil {
		return nil, err
	}
	servers, err := k.realServers(ctx, slices.Collect(maps.Keys(ours)))
	maps.Copy(result, ours)
	maps.Copy(result, servers)
	return result, err
}

// ObservePart reads back the next elements of a kind, the first ones if first, and tells whether there are
// more; none of a kind that is not one of elements. If the kind is changed between two parts, elements
// that are there all the time can be missing from the parts, and those of a part may have gone.
func (k *Kernel) ObservePart(ctx context.Context, kind plan.Kind, first bool) (part plan.Plan, more bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !nft.Holds(kind) {
		return plan.Plan{}, false, nil
	}
	return k.nft.ObservePart(ctx, kind, first)
}

// ObserveElements reads back those of some elements that exist.
func (k *Kernel) ObserveElements(ctx context.Context, elements []plan.Key) (plan.Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nft.Find(ctx, elements)
}

// ours gives the virtual servers that are recorded as ours.
func (k *Kernel) ours(ctx context.Context, owned plan.Plan) (plan.Plan, error) {
	servers, err := k.ipvs.VirtualServers(ctx)
	maps.DeleteFunc(servers, func(key plan.Key, _ plan.Value) bool {
		_, ours := owned[key.OwnedKey()]
		return !ours
	})
	return servers, err
}

// ObserveServers reads back some virtual servers, whoever's they are, with their real servers. One
// that is gone has neither.
func (k *Kernel) ObserveServers(ctx context.Context, virtualServers []plan.Key) (plan.Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	result, err := k.realServers(ctx, virtualServers)
	if err != nil {
		return nil, err
	}
	// The virtual servers come second: if somebody deletes one between the two, it is gone, and had
	// no real servers that could be missing.
	there, err := k.ipvs.Find(ctx, virtualServers)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(result, func(key plan.Key, _ plan.Value) bool {
		_, is := there[key.VirtualServerKey()]
		return !is
	})
	maps.Copy(result, there)
	return result, nil
}

func (k *Kernel) realServers(ctx context.Context, virtualServers []plan.Key) (plan.Plan, error) {
	result := plan.Plan{}
	for _, server := range virtualServers {
		servers, _, err := k.ipvs.RealServers(ctx, server)
		if errors.Is(err, ipvs.ErrNoVirtualServer) {
			continue // removed by somebody since it was listed
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(result, servers)
	}
	return result, nil
}

// Apply does operations in the order given: operations on set elements that follow each
// other in one transaction, those on servers in batches. It goes on after one that
// fails, except with the servers that could not be recorded as ours, and until ctx is done.
// It returns what was done, and the errors of what was not.
func (k *Kernel) Apply(ctx context.Context, ops []plan.Op) (done []plan.Op, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keepClients(ctx, ops)
	run := &run{kernel: k, failed: map[plan.Key]error{}}
	for len(ops) > 0 {
		held := nft.Holds(ops[0].Key.Kind)
		n := slices.IndexFunc(ops, func(op plan.Op) bool { return nft.Holds(op.Key.Kind) != held })
		if n < 0 {
			n = len(ops)
		}
		if held {
			run.elements(ctx, ops[:n])
		} else {
			run.servers(ctx, ops[:n])
		}
		ops = ops[n:]
	}
	k.forget(run.done)
	return run.done, errors.Join(run.errs...)
}

// forget lets UDP sockets that were sending to addresses before these were served begin anew; or,
// if kube-proxy served them and has led them to endpoints by NAT, those whose endpoint goes.
func (k *Kernel) forget(done []plan.Op) {
	var destinations []conntrack.Destination
	for _, op := range done {
		if op.Key.Mark != 0 || op.Key.Protocol == model.TCP {
			continue
		}
		served := op.Key.Kind == plan.VirtualServer || op.Key.Kind == plan.Split
		begins := op.Verb == plan.Add && served && !k.translated
		ends := op.Verb == plan.Delete && op.Key.Kind == plan.RealServer && k.translated
		if begins || ends {
			destinations = append(destinations, conntrack.Destination{
				Protocol: op.Key.Protocol, To: netip.AddrPortFrom(op.Key.Addr, op.Key.Port), At: op.Key.Endpoint,
			})
		}
	}
	if err := conntrack.Forget(destinations); err != nil {
		k.options.Logger.Warn("UDP sockets that were sending before may get no answer", slog.Any("err", err))
	}
}

// run is one call of Apply.
type run struct {
	kernel *Kernel
	// failed has the operations that must not follow after an earlier failure: those
	// on objects with these keys.
	failed map[plan.Key]error
	done   []plan.Op
	errs   []error
}

// elements does operations on set elements that follow each other.
func (r *run) elements(ctx context.Context, ops []plan.Op) {
	var allowed []plan.Op
	for _, op := range ops {
		if reason := r.failed[op.Key]; reason != nil {
			r.fail(op, reason)
			continue
		}
		allowed = append(allowed, op)
	}
	done, err := r.kernel.nft.Apply(ctx, allowed)
	r.done = append(r.done, done...)
	if err == nil {
		return
	}
	r.errs = append(r.errs, classify(err, nil))
	for _, op := range allowed {
		if (op.Key.Kind == plan.Owned || op.Key.Kind == plan.OwnedMark) && op.Verb != plan.Delete && !slices.Contains(done, op) {
			// A virtual server that is not recorded would never be removed.
			r.failed[op.Key.VirtualServerKey()] = errNotRecorded
		}
	}
}

// servers does operations on virtual and real servers that follow each other.
func (r *run) servers(ctx context.Context, ops []plan.Op) {
	allowed := make([]plan.Op, 0, len(ops))
	for _, op := range ops {
		if reason := r.refuses(op); reason != nil {
			r.fail(op, reason)
			continue
		}
		allowed = append(allowed, op)
	}
	for i, err := range r.kernel.ipvs.Do(ctx, allowed...) {
		op := allowed[i]
		if err == nil {
			r.done = append(r.done, op)
			continue
		}
		r.fail(op, err)
		if op.Key.Kind == plan.VirtualServer && op.Verb == plan.Delete {
			r.failed[op.Key.OwnedKey()] = errStillThere
		}
	}
}

// refuses gives the reason why an operation on a server is not to be tried.
func (r *run) refuses(op plan.Op) error {
	if op.Key.Kind != plan.VirtualServer && op.Key.Kind != plan.RealServer {
		return fmt.Errorf("%s: %w", op.Key.Kind, ErrNotHere)
	}
	if op.Verb == plan.Delete {
		return nil
	}
	return r.failed[op.Key.VirtualServerKey()]
}

func (r *run) fail(op plan.Op, err error) {
	lacking := errors.Is(err, ipvs.ErrNoScheduler)
	// The kernel looks at the addresses of real servers (ip_vs_new_dest). If it should not
	// understand us at all, virtual servers fare likewise, and that is no Refusal.
	unfit := op.Key.Kind == plan.RealServer && errors.Is(err, syscall.EINVAL)
	if op.Verb != plan.Delete && (lacking || unfit) {
		r.errs = append(r.errs, &plan.Refusal{Op: op, Err: classify(err, nil), NoScheduler: lacking})
		return
	}
	r.errs = append(r.errs, fmt.Errorf("%s: %w", op, classify(err, nil)))
}

// Connections counts the connections, active and inactive, that each real server of
// some virtual servers holds. A virtual server that is gone has none.
func (k *Kernel) Connections(ctx context.Context, virtualServers []plan.Key) (map[plan.Key]uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	result := map[plan.Key]uint32{}
	for _, key := range virtualServers {
		_, counts, err := k.ipvs.RealServers(ctx, key)
		if errors.Is(err, ipvs.ErrNoVirtualServer) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for server, count := range counts {
			result[server] = count.Active + count.Inactive
		}
	}
	return result, nil
}
