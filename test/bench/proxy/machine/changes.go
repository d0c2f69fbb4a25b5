package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-project/mooring/test/bench/proxy/cluster"
	"github.com/mooring-project/mooring/test/bench/proxy/measured"
)

// changes replaces the endpoint of one Service again and again, each time when the subject is at
// rest. One that is not followed in time ends them.
func (s *subject) changes(ctx context.Context, b *bench, heard bool) ([]measured.Change, error) {
	n := b.Changes
	if heard {
		n = b.HeardChanges
	}
	var all []measured.Change
	for began := time.Now(); len(all) < n && time.Since(began) < b.ChangesLimit; {
		s.quiet(ctx)
		c, err := s.change(ctx, b)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
		if c.Latency == 0 {
			break
		}
	}
	return all, nil
}

func (s *subject) change(ctx context.Context, b *bench) (c measured.Change, err error) {
	c.Use, err = s.during(b.execs, func() error {
		ctx, cancel := context.WithTimeout(ctx, b.ChangeLimit)
		defer cancel()
		endpoint := b.nextEndpoint()
		began := time.Now()
		arrived := make(chan error, 1)
		go func() { arrived <- s.client.Run(func() error { return follow(ctx, &c, began, endpoint) }) }()
		if err := b.move(ctx, endpoint); err != nil {
			cancel()
			return errors.Join(err, <-arrived)
		}
		if err := <-arrived; err != nil {
			return err
		}
		s.quiet(ctx)
		return nil
	})
	return c, err
}

// follow asks the Service until the endpoint answers.
func follow(ctx context.Context, c *measured.Change, began time.Time, endpoint netip.Addr) error {
	for ctx.Err() == nil {
		elapsed := time.Since(began)
		from, err := ask(cluster.Moving, max(200*time.Millisecond, elapsed/20))
		c.Asked++
		if from == endpoint {
			c.Latency = time.Since(began)
			return nil
		}
		if err != nil {
			c.Failed++
		}
		_ = pause(ctx, max(2*time.Millisecond, elapsed/50)) // ends the loop as well
	}
	return nil
}

// nextEndpoint gives an address that no pod has had.
func (b *bench) nextEndpoint() netip.Addr {
	b.moves++
	return netip.AddrFrom4([4]byte{10, 190, byte(b.moves >> 8), byte(b.moves)})
}

// move writes the Service's slice with another endpoint.
func (b *bench) move(ctx context.Context, endpoint netip.Addr) error {
	_, slice := cluster.MovingObjects(endpoint.String())
	_, err := b.api.DiscoveryV1().EndpointSlices(slice.Namespace).Update(ctx, slice, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("write of slice %s: %w", slice.Name, err)
	}
	return nil
}

// floor times how long a client takes that only reads: all objects, and the same changes.
func (b *bench) floor(ctx context.Context, services int) (err error) {
	run := measured.Run{Subject: measured.Floor, Services: services}
	if run.First.All, err = b.reading(ctx); err != nil {
		return err
	}
	_, slice := cluster.MovingObjects("")
	watch, err := b.api.DiscoveryV1().EndpointSlices(slice.Namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + slice.Name})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer watch.Stop()
	<-watch.ResultChan() // what is there already
	for range b.Changes {
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		began := time.Now()
		written := make(chan error, 1)
		go func() { written <- b.move(ctx, b.nextEndpoint()) }()
		_, open := <-watch.ResultChan()
		latency := time.Since(began)
		if err := <-written; err != nil || !open {
			return errors.Join(err, errors.New("the watch ended"))
		}
		run.Changes = append(run.Changes, measured.Change{Latency: latency})
	}
	return b.out.Encode(measured.Line{Run: &run})
}
