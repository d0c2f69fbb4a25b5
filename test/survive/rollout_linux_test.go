package survive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/testkit/pulse"
)

// ports is how few source ports each origin has, so that a port is used again after two or three seconds.
const ports = 400

// reusePorts has an origin's clients use them again although they remember the last connection.
func (o origin) reusePorts(t *testing.T) {
	t.Helper()
	err := errors.Join(
		o.ns.Sysctl("net.ipv4.ip_local_port_range", fmt.Sprintf("20000 %d", 20000+ports-1)),
		o.ns.Sysctl("net.ipv4.tcp_tw_reuse", "1"), // after a second
	)
	if err != nil {
		t.Fatal(err)
	}
}

// rollout replaces three servers by three others as a Deployment does, and as its pods do: a new pod
// gets ready; an old one is terminating and still serves while its preStop hook sleeps, takes no
// more connections then, and ends those that it has after its grace.
type rollout struct {
	*bed
	endpoints []endpoint
	old       []*server
}

func newRollout(t *testing.T, args ...string) *rollout {
	b := newBed(t)
	b.args = append(b.args, append([]string{"--source=manifests:" + b.file("objects.yaml")}, args...)...)
	r := &rollout{bed: b}
	for i := range 3 {
		r.old = append(r.old, startServer(t, b.network.Nodes[i%2], fmt.Sprintf("old-%d", i)))
	}
	r.endpoints = ready(r.old...)
	r.apply()
	b.start()
	b.until("the start", b.healthy)
	return r
}

func (r *rollout) apply() { r.write(web(r.endpoints)) }

const (
	preStop = 3 * time.Second
	grace   = 2 * time.Second
)

// play replaces all servers and calls ending just before one ends its connections.
func (r *rollout) play(ending func(*server)) {
	for i, old := range r.old {
		fresh := startServer(r.t, r.network.Nodes[i%2], fmt.Sprintf("new-%d", i))
		r.endpoints = append(r.endpoints, ready(fresh)...)
		r.apply()
		at := slices.IndexFunc(r.endpoints, func(e endpoint) bool { return e.server == old })
		r.endpoints[at].terminating = true
		r.apply()
		time.Sleep(preStop)
		old.close()
		time.Sleep(grace)
		ending(old)
		old.end()
		r.endpoints = slices.Delete(r.endpoints, at, at+1)
		r.apply()
	}
}

func TestRollingUpdate(t *testing.T) {
	r := newRollout(t)
	for _, o := range r.origins() {
		o.reusePorts(t)
	}
	beats, lines := pulse.Start(t), hold(t, 60, r.origins()...)
	stream := startStream(t, 500, 12, r.origins()...)
	lost := 0
	r.play(func(s *server) {
		if broken := lines.broken(); len(broken) > lost {
			t.Errorf("before %s ended its connections:\n%s", s.name, strings.Join(broken[lost:], "\n"))
		}
		s.end()
		r.until("the end of its lines", func() error {
			if s.held() > 0 {
				return fmt.Errorf("%d are open", s.held())
			}
			return nil
		})
		time.Sleep(2 * pingPause) // in which their clients notice
		lost = len(lines.broken())
	})
	visits := stream.finish()
	visits.check(t, beats)
	served := make(map[string]int)
	for _, v := range visits.visits {
		served[v.server]++
	}
	t.Logf("served by %v", served)
	if lost != 60 {
		t.Errorf("%d of 60 lines ended with their servers", lost)
	}
	r.verify()
}

// TestRollingUpdateFailsWithoutDraining shows that the test above can fail: an endpoint that has no
// time to leave loses its connections before its pod ends them.
func TestRollingUpdateFailsWithoutDraining(t *testing.T) {
	r := newRollout(t, "--drain-timeout=0")
	lines := hold(t, 30, r.origins()...)
	lost := 0
	r.play(func(*server) { lost = max(lost, len(lines.broken())) })
	if lost == 0 {
		t.Error("no line was lost before its pod ended")
	}
	t.Logf("%d of 30 lines were lost before their pods ended", lost)
}
