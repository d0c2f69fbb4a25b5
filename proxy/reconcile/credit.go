package reconcile

import "time"

const (
	// creditFull is the work that is done without a pause.
	creditFull = time.Second
	// creditGain says that one part of so many of the time is for work, in the long run.
	creditGain = 4
	// debtMost bounds the pause after a long round, to creditGain times as much.
	debtMost = 100 * time.Millisecond
)

// credit bounds how much of the time the loop works when changes do not end: rounds use it up,
// time brings it back. Changes that come while it is used up are gathered, and what they undo
// among themselves costs nothing. A burst, or a change now and then, never waits.
type credit struct {
	left time.Duration
	at   time.Time
}

// spend pays for a round that has just ended.
func (c *credit) spend(took time.Duration, now time.Time) {
	c.gain(now)
	c.left = max(c.left-took, -debtMost)
}

// wait gives how long there is none.
func (c *credit) wait(now time.Time) time.Duration {
	c.gain(now)
	return max(-c.left, 0) * creditGain
}

func (c *credit) gain(now time.Time) {
	if !c.at.IsZero() {
		c.left = min(c.left+now.Sub(c.at)/creditGain, creditFull)
	}
	c.at = now
}
