package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// manifestsAgain is how often manifests are read though no change of them has been notified
// (internal/watch); an API server is not asked without need.
const manifestsAgain = 10 * time.Second

// TestIdleMeansAsleep counts what a mooring-proxy without anything to do does: nothing, but for its
// manifests, and for Go's own monitor, which looks about once a minute whether to collect garbage.
func TestIdleMeansAsleep(t *testing.T) {
	n := startNode(t, objects, "--audit-period=0")
	n.want("started", "10256/healthz", 200, "lastUpdated")
	time.Sleep(3 * time.Second) // what begins, as closing idle connections, has ended
	const window = 2 * time.Second
	windows := 10
	if isLong() {
		windows = 60
	}
	ear := newEar(t, n.namespace)
	all := countCalls(t, n.process.Process.Pid, "")
	awake := 0
	for range windows {
		calls, wakes := all.total(), n.switches()
		time.Sleep(window)
		if calls, wakes = all.total()-calls, n.switches()-wakes; calls+wakes > 0 {
			awake++
			t.Logf("in %s: %d system calls, %d wake-ups", window, calls, wakes)
		}
	}
	if messages := ear.take(); messages != (heard{}) {
		t.Errorf("netlink messages of an idle proxy: %+v", messages)
	}
	reads := int(time.Duration(windows)*window/manifestsAgain) + 1
	if minutes := int(time.Duration(windows)*window/time.Minute) + 1; awake > reads+minutes {
		t.Errorf("awake in %d of %d windows of %s, want at most %d", awake, windows, window, reads+minutes)
	}
}

// switches gives how often threads of mooring-proxy have gone to sleep.
func (n *node) switches() (sum int) {
	n.t.Helper()
	text := n.shell(fmt.Sprintf("cat /proc/%d/task/*/status", n.process.Process.Pid))
	for line := range strings.Lines(text) {
		var number int
		if _, err := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &number); err == nil {
			sum += number
		}
	}
	return sum
}
