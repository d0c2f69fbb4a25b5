package mooring

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/watch"
)

func TestStaleData(t *testing.T) {
	m := newTestPlugin(t, "mooring cluster.local {\nstale_after 2m unready\n}")
	now := time.Now()
	heard := func(ago time.Duration) {
		m.showFreshness([]watch.KindStatus{{Kind: "services", Contact: now}, {Kind: "endpointslices", Contact: now.Add(-ago)}, {Kind: "pods"}}, now)
	}
	heard(time.Minute)
	if !m.Ready() {
		t.Error("not ready with fresh data")
	}
	if got := extendedErrors(t, m, "web.default.svc.cluster.local. A"); len(got) != 0 {
		t.Errorf("fresh: %v", got)
	}
	heard(3 * time.Minute)
	if m.Ready() {
		t.Error("ready with stale data")
	}
	const text = "the source of the data was last heard of 3m0s ago"
	for question, code := range map[string]uint16{
		"web.default.svc.cluster.local. A":    dns.ExtendedErrorCodeStaleAnswer,
		"web.default.svc.cluster.local. AAAA": dns.ExtendedErrorCodeStaleAnswer,
		"none.default.svc.cluster.local. A":   dns.ExtendedErrorCodeStaleNXDOMAINAnswer,
	} {
		got := extendedErrors(t, m, question)
		if len(got) == 0 || got[0].InfoCode != code || got[0].ExtraText != text {
			t.Errorf("%s: got %v, want %d %q first", question, got, code, text)
		}
	}
	heard(time.Second)
	if !m.Ready() {
		t.Error("not ready after the source came back")
	}
}
