package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
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
	if len(found.lacking)+len(found.operations) == 0 {
		_, err := fmt.Fprintln(out, "the kernel is as it should be")
		return err
	}
	return errors.Join(found.print(out), ErrDiffers)
}

// findings are what is missing of what does not depend on Services, and what is to be done.
type findings struct {
	lacking    []string
	operations []plan.Op
}

func (f findings) print(out io.Writer) error {
	for _, line := range f.lacking {
		if _, err := fmt.Fprintln(out, "set up:", line); err != nil {
			return err
		}
	}
	for _, op := range f.operations {
		if _, err := fmt.Fprintln(out, op); err != nil {
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
	reading, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return source.Run(reading, store) })
	found.operations, err = reconcile.Preview(ctx, options)
	stop()
	return found, errors.Join(err, group.Wait())
}
