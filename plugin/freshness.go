package mooring

import (
	"fmt"
	"time"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/watch"
)

// freshnessInterval is how often the age of the data is looked at.
const freshnessInterval = time.Second

// freshness says from when on data counts as stale, and what follows.
type freshness struct {
	// limit is the property stale_after; 0 means never.
	limit time.Duration
	// unready is true if stale data makes the plugin not ready.
	unready bool
}

// showFreshness publishes how long ago each kind was last heard of, and notes whether
// that is too long.
func (m *Mooring) showFreshness(kinds []watch.KindStatus, now time.Time) {
	oldest := time.Duration(0)
	for _, kind := range kinds {
		auditRepairs.WithLabelValues(m.naming.primary, kind.Kind).Set(float64(kind.Repaired))
		if kind.Contact.IsZero() {
			continue // not synced yet: there is nothing to be stale
		}
		age := now.Sub(kind.Contact)
		contactAge.WithLabelValues(m.naming.primary, kind.Kind).Set(age.Seconds())
		oldest = max(oldest, age)
	}
	if m.freshness.limit == 0 || oldest <= m.freshness.limit {
		m.stale.Store(nil)
		return
	}
	text := fmt.Sprintf("the source of the data was last heard of %s ago", oldest.Round(time.Second))
	if m.stale.Swap(&text) == nil {
		log.Warningf("answering from stale data: %s", text)
	}
}

// staleness is the extended error of an answer from stale data (RFC 8914 sections 4.4
// and 4.20).
func (m *Mooring) staleness(snap view, a *answer) (e explanation, stale bool) {
	text := m.stale.Load()
	if asOf := snap.restored(); !asOf.IsZero() {
		text = new(fromDisk(asOf, time.Now()))
	}
	if text == nil {
		return explanation{}, false
	}
	code := uint16(dns.ExtendedErrorCodeStaleAnswer)
	if a.outcome == nameError {
		code = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	return explanation{code, *text}, true
}
