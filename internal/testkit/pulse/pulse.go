// Package pulse notes when the machine of a test stands still, which may be emulated beside other work.
package pulse

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// Beat is how often it is felt.
const Beat = 50 * time.Millisecond

// still is a gap that can make the other side's TCP send a SYN again.
const still = 400 * time.Millisecond

// A Pulse knows the gaps. It is safe for concurrent use.
type Pulse struct {
	// mu guards gaps.
	mu   sync.Mutex
	gaps [][2]time.Time
}

// Start feels it until the test ends, and then tells how often the machine stood still.
func Start(t *testing.T) *Pulse {
	p, done := &Pulse{}, make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for last := time.Now(); ; {
			select {
			case <-done:
				return
			case <-time.After(Beat):
			}
			now := time.Now()
			if now.Sub(last) > still {
				p.mu.Lock()
				p.gaps = append(p.gaps, [2]time.Time{last, now})
				p.mu.Unlock()
			}
			last = now
		}
	})
	t.Cleanup(func() {
		close(done)
		running.Wait()
		if len(p.gaps) > 0 {
			t.Logf("the machine stood still %d times", len(p.gaps))
		}
	})
	return p
}

// StoodStill tells whether it did at some time between two.
func (p *Pulse) StoodStill(from, to time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.gaps, func(gap [2]time.Time) bool { return gap[0].Before(to) && gap[1].After(from) })
}
