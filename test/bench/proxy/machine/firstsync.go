package main

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-project/mooring/test/bench/objects"
	"github.com/mooring-project/mooring/test/bench/proxy/cluster"
	"github.com/mooring-project/mooring/test/bench/proxy/measured"
)

// sampled is how many Services are asked over and over until they answer.
const sampled = 8

// firstSync waits until the subject has put everything into the kernel, then asks every Service.
func (s *subject) firstSync(ctx context.Context, b *bench, services int) (f measured.FirstSync, err error) {
	ctx, cancel := context.WithDeadline(ctx, s.started.Add(b.Limit))
	defer cancel()
	heard := s.heard.count()
	watched := []netip.AddrPort{cluster.Kubernetes, cluster.DNS}
	for range sampled {
		watched = append(watched, service(rand.IntN(services)))
	}
	answered := make([]time.Duration, len(watched))
	var asking sync.WaitGroup
	for i, address := range watched {
		asking.Go(func() { answered[i] = s.untilAnswer(ctx, address) })
	}
	asking.Wait() // before its metrics are asked for, over and over, at its own cost
	rest, err := s.untilRest(ctx)
	if err != nil {
		return f, err
	}
	f.Kubernetes, f.DNS = answered[0], answered[1]
	f.All = last(append(answered, rest))
	if f.CPU, err = s.cpu(); err != nil {
		return f, err
	}
	if f.Execs, err = b.execs.count(); err != nil {
		return f, err
	}
	f.Execs -= s.execs + startExecs
	if f.All == 0 {
		return f, s.ended()
	}
	if s.heard != nil {
		s.quiet(ctx) // what was said is heard a little later
		f.Netlink = difference(s.heard.count(), heard)
	}
	f.Asked, f.Unanswered = services, s.unanswered(services)
	return f, nil
}

func service(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(objects.ClusterIP(cluster.Number(i))), cluster.ServicePort)
}

// last is the longest time, or 0 if there is one that is 0: something did not happen at all.
func last(times []time.Duration) (longest time.Duration) {
	for _, t := range times {
		if t == 0 {
			return 0
		}
		longest = max(longest, t)
	}
	return longest
}

// untilAnswer asks an address until it answers and gives the time since the start; 0 if ctx or the
// subject ends before. The longer it takes, the more rarely it is asked: time is told to 2% or 10 ms.
func (s *subject) untilAnswer(ctx context.Context, at netip.AddrPort) (after time.Duration) {
	_ = s.client.Run(func() error {
		for ctx.Err() == nil && s.ended() == nil {
			elapsed := time.Since(s.started)
			// What is on its way when the Service appears is lost, and the kernel tries again only
			// after a second.
			if _, err := ask(at, max(50*time.Millisecond, elapsed/20)); err == nil {
				after = time.Since(s.started)
				return nil
			}
			_ = pause(ctx, max(10*time.Millisecond, elapsed/50)) // ends the loop as well
		}
		return nil
	})
	return after
}

// untilRest waits until the subject says that it is through with what it has heard of, and gives
// the time since the start; 0 if ctx ends before.
func (s *subject) untilRest(ctx context.Context) (time.Duration, error) {
	for !s.proxy.AtRest(ctx) {
		if err := s.ended(); err != nil {
			return 0, err
		}
		if pause(ctx, max(50*time.Millisecond, time.Since(s.started)/50)) != nil {
			return 0, nil
		}
	}
	return time.Since(s.started), nil
}

// unanswered asks every Service once and counts those that do not answer.
func (s *subject) unanswered(services int) int {
	const askers, limit = 4, 3 * time.Second
	var next, failed atomic.Int64
	var asking sync.WaitGroup
	for range askers {
		asking.Go(func() {
			_ = s.client.Run(func() error {
				for i := int(next.Add(1)) - 1; i < services; i = int(next.Add(1)) - 1 {
					if _, err := ask(service(i), limit); err != nil {
						failed.Add(1)
					}
				}
				return nil
			})
		})
	}
	asking.Wait()
	return int(failed.Load())
}
