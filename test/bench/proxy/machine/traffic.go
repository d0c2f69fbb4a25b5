package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mooring-project/mooring/test/bench/objects"
	"github.com/mooring-project/mooring/test/bench/proxy/cluster"
	"github.com/mooring-project/mooring/test/bench/proxy/measured"
)

// askers is how many connect at once where connections per second are counted.
const askers = 4

// traffic connects to Services and to their pods in turn.
func (s *subject) traffic(ctx context.Context, b *bench, services int) ([]measured.Traffic, error) {
	addresses := map[bool][]netip.AddrPort{}
	for range 500 {
		i := rand.IntN(services)
		pod := objects.PodAddresses(cluster.Number(i), b.Endpoints)[rand.IntN(b.Endpoints)]
		addresses[true] = append(addresses[true], netip.AddrPortFrom(netip.MustParseAddr(pod), endpointPort))
		addresses[false] = append(addresses[false], service(i))
	}
	var all []measured.Traffic
	for range b.TrafficRounds {
		for _, direct := range []bool{true, false} {
			t := measured.Traffic{Direct: direct}
			one := s.load(ctx, 1, b.Traffic, addresses[direct])
			many := s.load(ctx, askers, b.Traffic, addresses[direct])
			if len(one.times) == 0 || len(many.times) == 0 {
				return nil, errors.Join(errors.New("traffic: no connection"), ctx.Err())
			}
			t.P50, t.P99 = one.times[len(one.times)/2], one.times[len(one.times)*99/100]
			t.PerSecond = float64(len(many.times)) / b.Traffic.Seconds()
			t.Failed = one.failed + many.failed
			all = append(all, t)
		}
	}
	return all, nil
}

// loaded is what connections took, in ascending order.
type loaded struct {
	times  []time.Duration
	failed int
}

// load has so many askers connect to one address after the other for a while.
func (s *subject) load(ctx context.Context, askers int, d time.Duration, addresses []netip.AddrPort) loaded {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	parts := make([]loaded, askers)
	var asking sync.WaitGroup
	for a := range askers {
		asking.Go(func() {
			_ = s.client.Run(func() error {
				for i := a; i == a || ctx.Err() == nil; i++ { // once at least, on however busy a machine
					began := time.Now()
					if _, err := ask(addresses[i%len(addresses)], time.Second); err != nil {
						parts[a].failed++
						continue
					}
					parts[a].times = append(parts[a].times, time.Since(began))
				}
				return nil
			})
		})
	}
	asking.Wait()
	var all loaded
	for _, part := range parts {
		all.times = append(all.times, part.times...)
		all.failed += part.failed
	}
	slices.Sort(all.times)
	return all
}
