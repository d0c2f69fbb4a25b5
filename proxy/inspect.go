package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
	"github.com/mooring-project/mooring/proxy/takeover"
)

// ErrDiffers is what Verify gives when the kernel is not as it should be.
var ErrDiffers = errors.New("the kernel is not as it should be")

// Plan prints what Run would begin with, an operation on a line, and does nothing.
func Plan(ctx context.Context, c config.Config, logger *slog.Logger, out io.Writer) error {
	found, err := inspect(ctx, c, logger)
	if err != nil {
		return err
	}
	return found.print(out)
}

// Verify prints in what the kernel differs from what it should be and gives ErrDiffers, or says
// that it does not. Listeners on loopback addresses belong to a process and are not looked at.
func Verify(ctx context.Context, c config.Config, logger *slog.Logger, out io.Writer) error {
	found, err := inspect(ctx, c, logger)
	if err != nil {
		return err
	}
	found.dropRelays()
	if !found.differs() {
		found.first = append(found.first, "the kernel is as it should be")
		return found.print(out)
	}
	return errors.Join(found.print(out), ErrDiffers)
}

// findings are what is missing of what does not depend on Services, and what is to be done.
type findings struct {
	// first is what is to be known before all else.
	first      []string
	lacking    []string
	operations []plan.Op
	// kubeProxy is true while kube-proxy runs, takeover what becomes of what it has left.
	kubeProxy bool
	takeover  takeover.Steps
}

func (f findings) differs() bool {
	steps := f.takeover
	steps.Keep = nil // they go by themselves
	return f.kubeProxy || !steps.Nothing() || len(f.lacking)+len(f.operations) > 0
}

func (f findings) print(out io.Writer) error {
	lines := slices.Clone(f.first)
	for _, line := range f.lacking {
		lines = append(lines, "set up: "+line)
	}
	lines = append(lines, f.takeover.Before()...)
	for _, op := range f.operations {
		lines = append(lines, op.String())
	}
	lines = append(append(lines, f.takeover.After()...), f.takeover.Remaining()...)
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

func (f *findings) dropRelays() {
	kept := f.operations[:0]
	for _, op := range f.operations {
		if op.Key.Kind != plan.Relay {
			kept = append(kept, op)
		}
	}
	f.operations = kept
}

// inspect compares the kernel with what the source says, and changes nothing.
func inspect(ctx context.Context, c config.Config, logger *slog.Logger) (found findings, err error) {
	source, err := NewSource(c, logger)
	if err != nil {
		return found, err
	}
	own, err := newAddresses(c, logger)
	if err != nil {
		return found, err
	}
	kernel, err := dataplane.Open(dataplaneOptions(c, logger))
	if err != nil {
		return found, err
	}
	defer kernel.Close()
	if found.lacking, err = kernel.Lacking(ctx); err != nil {
		return found, err
	}
	store := state.NewStore()
	options := loopOptions(c, store, own, slog.New(slog.DiscardHandler))
	options.Dataplane = kernel
	if c.AdoptKubeProxy {
		if options.Dataplane, err = found.adopt(ctx, c, kernel); err != nil {
			return found, err
		}
	}
	reading, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return source.Run(reading, store) })
	found.operations, err = reconcile.Preview(ctx, options)
	stop()
	return found, errors.Join(err, group.Wait())
}

// adopt finds what would be taken over from kube-proxy, and gives the data plane as it would be
// then.
func (f *findings) adopt(ctx context.Context, c config.Config, kernel *dataplane.Kernel) (reconcile.Dataplane, error) {
	var address string
	if address, f.kubeProxy = kubeProxyAt(ctx, c); f.kubeProxy {
		f.first = append(f.first, stillRuns(address))
	}
	left, err := kernel.Leftovers(ctx)
	f.takeover = takeover.Decide(left)
	return adopted{kernel, f.takeover.Adopt}, err
}

// adopted is a data plane of which more is ours than it says itself.
type adopted struct {
	*dataplane.Kernel
	servers []plan.Key
}

// Observe implements reconcile.Dataplane.
func (a adopted) Observe(ctx context.Context) (plan.Plan, error) {
	return a.ObserveAdopted(ctx, a.servers)
}
