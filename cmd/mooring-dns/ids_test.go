package main

import (
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// TestRandomIDs draws as many as there are values: of those about 1/e stay out.
func TestRandomIDs(t *testing.T) {
	const values = 1 << 16
	var seen [8][values]bool
	var drawing sync.WaitGroup
	for i := range seen {
		drawing.Go(func() {
			for range values / len(seen) {
				seen[i][randomID()] = true
			}
		})
	}
	drawing.Wait()
	distinct := 0
	for id := range values {
		for i := range seen {
			if seen[i][id] {
				distinct++
				break
			}
		}
	}
	if share := float64(distinct) / values; share < 0.62 || share > 0.65 {
		t.Errorf("%.3f of all IDs drawn, want 1-1/e", share)
	}
}

func BenchmarkRandomID(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			randomID()
		}
	})
	b.Run("stock", func(b *testing.B) {
		for b.Loop() {
			dns.Id()
		}
	})
}
