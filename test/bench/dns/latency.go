package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/test/bench/objects"
)

// A change is a kind of write whose way to the answer is timed.
type change struct {
	name string
	// write makes address the answer to name.
	write func(api *apiServer, address string) error
}

func changes() []change {
	return []change{
		{"ClusterIP of a Service", func(api *apiServer, address string) error {
			return api.put("services", objects.Service("ns-1", "moving", address))
		}},
		{"endpoint of a headless Service", func(api *apiServer, address string) error {
			service := objects.Service("ns-1", "moving", "None")
			return api.put("endpointslices", objects.Slice(service, []string{address}))
		}},
	}
}

// latencies times changes, each from before the write to the first answer that has it.
func latencies(ctx context.Context, api *apiServer, s *server, c change, times int) ([]time.Duration, error) {
	if err := api.put("services", objects.Service("ns-1", "moving", "None")); err != nil {
		return nil, err
	}
	var out []time.Duration
	for i := range times + 1 {
		if err := pause(ctx, time.Duration(10+rand.IntN(20))*time.Millisecond); err != nil {
			return nil, err
		}
		address := fmt.Sprintf("10.250.%d.%d", 1+i/200, 1+i%200)
		began := time.Now()
		if err := c.write(api, address); err != nil {
			return nil, err
		}
		if err := s.waitFor(ctx, "moving.ns-1"+zone+".", address); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if i > 0 { // the first one also waits for what came before
			out = append(out, time.Since(began))
		}
	}
	slices.Sort(out)
	return out, nil
}

// waitFor asks, one question after the other, until the answer is the address.
func (s *server) waitFor(ctx context.Context, name, address string) error {
	conn, err := dns.DialTimeout("udp", fmt.Sprintf("127.0.0.1:%d", s.DNS), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := &dns.Client{Timeout: time.Second}
	var last *dns.Msg
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		last, _, err = client.ExchangeWithConnContext(ctx, new(dns.Msg).SetQuestion(name, dns.TypeA), conn)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if len(last.Answer) == 1 && strings.HasSuffix(last.Answer[0].String(), "\t"+address) {
			return nil
		}
	}
	return fmt.Errorf("%s: %s is not %s after 10s:\n%s", s.name, name, address, last)
}
