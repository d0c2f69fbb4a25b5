// Command machine is the half of the benchmark of mooring-proxy that runs in the kernel machine:
// it starts each subject in turn on a node of its own, and measures. Its argument is a
// measured.Order as JSON; it prints a measured.Line of JSON for itself and for each run.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/test/bench/proxy/measured"
	"github.com/mooring-project/mooring/test/peers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		slog.Error("machine", "error", err)
		os.Exit(1)
	}
}

// bench is all that is measured.
type bench struct {
	measured.Order
	api   *kubernetes.Clientset
	desk  desk
	execs *execs
	moves int
	out   *json.Encoder
}

func run(ctx context.Context, args []string) error {
	b := &bench{out: json.NewEncoder(os.Stdout)}
	if len(args) != 1 {
		return fmt.Errorf("%d arguments: want one, the order as JSON", len(args))
	}
	err := json.Unmarshal([]byte(args[0]), &b.Order)
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	b.desk = desk{b.Desk}
	if b.api, err = peers.Client(); err != nil {
		return err
	}
	if b.execs, err = countExecs(); err != nil {
		return err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	if err := b.out.Encode(measured.Line{Kernel: strings.TrimSpace(string(kernel))}); err != nil {
		return err
	}
	for _, services := range b.Sizes {
		if err := b.size(ctx, services); err != nil {
			return fmt.Errorf("%d Services: %w", services, err)
		}
	}
	return nil
}

// size measures everything beside so many Services, the subjects in turn. Who has not
// synced in time is not started again.
func (b *bench) size(ctx context.Context, services int) error {
	if err := b.desk.fill(ctx, services, b.Endpoints); err != nil {
		return err
	}
	if services == b.Sizes[0] {
		if err := b.warm(ctx, services); err != nil {
			return err
		}
	}
	if err := b.floor(ctx, services); err != nil {
		return err
	}
	late := map[peers.Subject]bool{}
	for round := range b.Rounds + 1 {
		heard := round == b.Rounds
		if heard && !b.Heard {
			break
		}
		for _, s := range b.Subjects {
			if late[s] || heard && !b.whole(s, services) {
				continue
			}
			run, err := b.measure(ctx, measured.Run{Subject: s, Services: services, Heard: heard}, round == 0)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			late[s] = run.First.All == 0
			if err := b.out.Encode(measured.Line{Run: &run}); err != nil {
				return err
			}
		}
	}
	return nil
}

// whole tells whether everything is to be measured of a subject beside so many Services.
func (b *bench) whole(s peers.Subject, services int) bool {
	return s == peers.Mooring || services >= b.Whole
}

// warm starts each subject once for nothing: the first to use something in the machine waits until
// it is loaded, or translated by an emulator.
func (b *bench) warm(ctx context.Context, services int) error {
	for _, name := range b.Subjects {
		s, err := b.start(ctx, name, false)
		if err == nil {
			_, err = s.firstSync(ctx, b, services)
			s.stop()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// measure starts a subject once. What takes long and varies little is done in the first round only.
func (b *bench) measure(ctx context.Context, run measured.Run, first bool) (measured.Run, error) {
	s, err := b.start(ctx, run.Subject, run.Heard)
	if err != nil {
		return run, err
	}
	defer s.stop()
	log := slog.With("subject", run.Subject, "services", run.Services, "heard", run.Heard)
	err = s.profiled(ctx, b, run.Services, "first-sync", func() (err error) {
		run.First, err = s.firstSync(ctx, b, run.Services)
		return err
	})
	if err != nil {
		return run, err
	}
	if _, run.Memory.FirstPeak, err = s.memory(); err != nil {
		return run, err
	}
	log.Info("first sync", "kubernetes", run.First.Kubernetes, "dns", run.First.DNS, "all", run.First.All, "cpu", run.First.CPU, "unanswered", run.First.Unanswered)
	if run.First.All == 0 {
		return run, nil
	}
	s.quiet(ctx)
	whole := b.whole(run.Subject, run.Services)
	if whole {
		if err := s.rest(ctx, b, &run, first); err != nil {
			return run, err
		}
	}
	if first && !run.Heard && b.Traffic > 0 {
		if run.Traffic, err = s.traffic(ctx, b, run.Services); err != nil {
			return run, err
		}
	}
	if b.Relist && whole && (run.Heard || first) {
		if run.Relist, err = s.relist(ctx, b); err != nil {
			return run, err
		}
	}
	log.Info("measured", "memory", run.Memory, "relist", run.Relist)
	return run, nil
}

// rest measures what needs a subject that has synced: without changes, and with.
func (s *subject) rest(ctx context.Context, b *bench, run *measured.Run, first bool) (err error) {
	if run.Heard || first {
		use, err := s.during(b.execs, func() error { return pause(ctx, b.Idle) })
		if err != nil {
			return err
		}
		run.Idle = &use
		if run.Memory.Steady, _, err = s.memory(); err != nil {
			return err
		}
	}
	if b.profiles(run.Subject) {
		if err := s.profile(ctx, run.Services, "steady", "heap"); err != nil {
			return err
		}
	}
	return s.profiled(ctx, b, run.Services, "changes", func() (err error) {
		run.Changes, err = s.changes(ctx, b, run.Heard)
		return err
	})
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
