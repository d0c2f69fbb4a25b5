package proxy

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/reconcile"
	"github.com/mooring-project/mooring/proxy/takeover"
)

// adoption takes over what kube-proxy has left on the node: package takeover says how.
type adoption struct {
	kernel *dataplane.Kernel
	logger *slog.Logger

	// ready is closed when everything of ours has been applied for the first time.
	ready chan struct{}
	once  sync.Once
	// over is set when nothing of kube-proxy's is left.
	over atomic.Bool
	// held is the number of addresses that are still on kube-proxy's device.
	held atomic.Int64

	// diverted is set when the addresses have been taken from the host's routing.
	diverted bool
	// seen are the connections from these addresses when that was last looked at.
	seen map[netip.Addr]int
	// told is what was last logged about what stays.
	told string
}

const (
	// settle is the time after which it is looked again: who connects while addresses are
	// taken from the host's routing may still get one of them as its source.
	settle = time.Second
	// heldPoll is how often it is looked whether connections have ended.
	heldPoll = 5 * time.Second
)

func newAdoption(kernel *dataplane.Kernel, logger *slog.Logger) *adoption {
	return &adoption{kernel: kernel, logger: logger, ready: make(chan struct{})}
}

// warn tells what kube-proxy has left on a node where it is not to be taken over.
func (a *adoption) warn(ctx context.Context) {
	found, err := a.kernel.Leftovers(ctx)
	if err != nil {
		a.logger.Warn("not known what kube-proxy has left", "err", err)
		return
	}
	if takeover.Decide(found).Translated {
		a.logger.Warn("kube-proxy's rules are on this node and go before ours: Services that it has served stay as it has left them; " +
			"unless it still runs, start with --adopt-kube-proxy")
	}
}

// heldAddresses counts the addresses that connections of the host still have as their source.
func (a *adoption) heldAddresses() int { return int(a.held.Load()) }

// join has a loop take over and tell when all is applied.
func (a *adoption) join(options *reconcile.Options) {
	observe := options.Observe
	options.Dataplane = adopting{options.Dataplane, a}
	options.Observe = func(round reconcile.Round) {
		observe(round)
		a.applied(round)
	}
}

// adopting is a data plane that takes over kube-proxy's virtual servers whenever it is set up.
type adopting struct {
	reconcile.Dataplane
	adoption *adoption
}

// Setup implements reconcile.Dataplane.
func (a adopting) Setup(ctx context.Context) error {
	if err := a.Dataplane.Setup(ctx); err != nil {
		return err
	}
	return a.adoption.begin(ctx)
}

// begin makes kube-proxy's virtual servers ours.
func (a *adoption) begin(ctx context.Context) error {
	if a.over.Load() {
		return nil
	}
	found, err := a.kernel.Leftovers(ctx)
	if err != nil {
		return err
	}
	steps := takeover.Decide(found)
	if steps.Nothing() {
		return nil
	}
	a.logger.Info("taking over from kube-proxy", "virtual servers", len(steps.Adopt), "addresses", len(found.Addresses),
		"chains", len(steps.Chains), "ipsets", len(steps.Sets), "tables", len(steps.Tables))
	return a.kernel.Adopt(ctx, steps)
}

// applied hears of each round of the loop.
func (a *adoption) applied(round reconcile.Round) {
	if round.Complete && round.Err == nil && round.After.Synced {
		a.once.Do(func() { close(a.ready) })
	}
}

// run takes away what kube-proxy has left, once everything of ours has been applied.
func (a *adoption) run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-a.ready:
	}
	for wait := settle; !a.over.Load(); {
		again, err := a.advance(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			wait = min(2*wait, time.Minute)
			a.logger.Error("what kube-proxy has left is not removed", "err", err, "retry", wait)
		} else {
			wait = again
		}
		if wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}

// advance does what can be done at present, and gives the time until it is to be called again.
func (a *adoption) advance(ctx context.Context) (again time.Duration, err error) {
	found, err := a.kernel.Leftovers(ctx)
	if err != nil {
		return 0, err
	}
	addresses := slices.Concat(found.Addresses, found.Held)
	switch {
	case found.Device && !a.diverted:
		a.seen = nil
		err := a.kernel.Divert(ctx, addresses)
		a.diverted = err == nil
		return settle, err
	case len(addresses) > 0 && a.seen == nil:
		a.seen = found.Sources
		return settle, nil
	}
	found.Sources, a.seen = most(a.seen, found.Sources), found.Sources
	steps := takeover.Decide(found)
	if err := a.kernel.RemoveLeftovers(ctx, steps); err != nil {
		return 0, err
	}
	if err := a.kernel.Release(ctx, steps.Release, steps.Held()); err != nil {
		return 0, err
	}
	a.diverted = false
	a.held.Store(int64(len(steps.Keep)))
	a.tell(steps)
	switch {
	case steps.Nothing():
		a.over.Store(true)
		a.logger.Info("nothing of kube-proxy's is left")
		return 0, nil
	case len(steps.Keep)+len(steps.Legacy) > 0:
		return heldPoll, nil
	}
	return settle, nil
}

// most gives, of two countings of the same addresses, the higher counts: the list of sockets is
// not read at one moment.
func most(before, now map[netip.Addr]int) map[netip.Addr]int {
	result := maps.Clone(now)
	for address, count := range before {
		if _, still := result[address]; still {
			result[address] = max(result[address], count)
		}
	}
	return result
}

// tell logs what has been removed, and once for as long as it does not change, what stays.
func (a *adoption) tell(steps takeover.Steps) {
	if removed := len(steps.Vacate) + len(steps.Tables) + len(steps.Chains) + len(steps.Sets); removed > 0 || steps.Device {
		a.logger.Info("removed what kube-proxy has left", "addresses", len(steps.Vacate), "device", steps.Device, "tables", len(steps.Tables),
			"rules", len(steps.Unlink), "chains", len(steps.Chains), "ipsets", len(steps.Sets))
	}
	stays := strings.Join(steps.Remaining(), "; ")
	steps.Keep = slices.Clone(steps.Keep)
	for i := range steps.Keep {
		steps.Keep[i].Connections = 0 // their number alone is no news
	}
	key := strings.Join(steps.Remaining(), "; ")
	if key != "" && key != a.told {
		a.logger.Warn("something of kube-proxy's stays", "what", stays)
	}
	a.told = key
}
