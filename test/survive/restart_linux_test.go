package survive

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/testkit/pulse"
)

// TestRestart ends mooring-proxy again and again at random moments, by kill -9 or as an upgrade does,
// with changes made while it is away, under connections that are held and a stream of new ones.
func TestRestart(t *testing.T) {
	rounds := 8
	if soak() {
		rounds = 50
	}
	random := newRandom(t)
	b := newBed(t)
	b.args = append(b.args, "--source=manifests:"+b.file("objects.yaml"))
	r := &restarts{bed: b, random: random}
	for i := range 5 {
		r.servers = append(r.servers, startServer(t, b.network.Nodes[i%2], fmt.Sprintf("web-%d", i)))
	}
	r.serving = ready(r.servers...)
	r.write()
	b.start()
	b.until("the start", b.healthy)
	beats, lines := pulse.Start(t), hold(t, 200, b.origins()...)

	// The last server leaves for good, and has its time from now on.
	r.serving = ready(r.servers[:4]...)
	r.write()
	leaving := r.servers[4]
	first := r.drainOf(leaving)
	stream := startStream(t, 60, 4, b.origins()...)
	for range rounds {
		r.round()
	}
	r.wantExtra()
	last := r.drainOf(leaving)
	if gap := last.Sub(first); gap.Abs() > time.Second {
		t.Errorf("the deadline of what was leaving at the start has moved by %s", gap)
	}
	stream.finish().check(t, beats)
	lines.check(t)
	if held := leaving.held(); held < 200/5-5 {
		t.Errorf("the server that has left holds %d connections, expected about %d", held, 200/5)
	}
	b.verify()
	lines.end()
	b.until("the end of its last connection", func() error { return r.leftClean(leaving) })
	t.Logf("ended %d times by kill -9 and %d times by SIGTERM", r.killed, r.asked)
}

// TestRestartFailsWithoutItsLedger shows that the deadlines above stay because of the ledger.
func TestRestartFailsWithoutItsLedger(t *testing.T) {
	b := newBed(t)
	b.args = append(b.args, "--source=manifests:"+b.file("objects.yaml"), "--drain-ledger=")
	r := &restarts{bed: b, servers: []*server{startServer(t, b.node, "web-0"), startServer(t, b.node, "web-1")}}
	r.serving = ready(r.servers...)
	r.write()
	b.start()
	b.until("the start", b.healthy)
	hold(t, 6, b.origins()...)
	r.serving = ready(r.servers[0])
	r.write()
	first := r.drainOf(r.servers[1])
	time.Sleep(2 * time.Second)
	b.end(syscall.SIGKILL)
	b.start()
	if gap := r.drainOf(r.servers[1]).Sub(first); gap < 2*time.Second {
		t.Errorf("without a ledger the deadline has moved by %s only", gap)
	}
}

// restarts is a mooring-proxy that is ended again and again.
type restarts struct {
	*bed
	random  *rand.Rand
	servers []*server
	serving []endpoint
	// extra is the number of the newest Service besides web; the one before it is deleted.
	extra         int
	killed, asked int
}

func (r *restarts) write() { r.bed.write(web(r.serving), r.extraService(r.extra)) }

func (r *restarts) extraService(number int) object {
	return object{fmt.Sprintf("extra-%d", number), extraAddress(number), 0, ready(r.servers[0])}
}

func extraAddress(number int) string { return fmt.Sprintf("10.96.1.%d", number+1) }

// pause waits for a random time.
func (r *restarts) pause(most time.Duration) { time.Sleep(time.Duration(r.random.Int64N(int64(most)))) }

// round ends mooring-proxy at a random moment, perhaps before it has done what the last round
// wanted, changes something while it is away, or just before, and starts it again.
func (r *restarts) round() {
	if r.random.IntN(2) == 0 {
		r.wantExtra()
	}
	r.pause(1500 * time.Millisecond)
	early := r.random.IntN(3) == 0
	if early {
		r.change()
	}
	signal, count := os.Signal(syscall.SIGKILL), &r.killed
	if r.random.IntN(5) == 0 {
		signal, count = syscall.SIGTERM, &r.asked
	}
	*count++
	r.end(signal)
	r.pause(time.Second)
	if !early {
		r.change()
	}
	r.start()
}

// change gives web some of the first four servers, at least two, and replaces the Service besides it.
func (r *restarts) change() {
	perm := r.random.Perm(4)[:2+r.random.IntN(3)]
	r.serving = nil
	for _, i := range perm {
		r.serving = append(r.serving, ready(r.servers[i])...)
	}
	r.extra++
	r.write()
}

// wantExtra waits until the newest Service is served, and checks that the one before it is not.
func (r *restarts) wantExtra() {
	r.t.Helper()
	call := func(number int) visit {
		return origin{"node", r.node.Namespace, net.JoinHostPort(extraAddress(number), "80")}.call(context.Background())
	}
	r.until(fmt.Sprintf("Service extra-%d", r.extra), func() error { return call(r.extra).err })
	if r.extra > 0 && call(r.extra-1).err == nil {
		r.t.Errorf("the deleted Service extra-%d is still served", r.extra-1)
	}
}

// leftClean tells whether a server has left all virtual servers without a connection.
func (r *restarts) leftClean(s *server) error {
	page, err := r.drains()
	if err != nil {
		return err
	}
	for _, l := range page.Leaving {
		if l.Endpoint == s.endpoint() {
			return fmt.Errorf("it still has %d connections", l.Connections)
		}
	}
	for _, l := range page.Left {
		if l.Endpoint == s.endpoint() && l.Outcome == "clean" {
			return nil
		}
	}
	return fmt.Errorf("it has not left clean: %+v", page.Left)
}

// drainOf gives the deadline of a server that is leaving web's ClusterIP.
func (r *restarts) drainOf(s *server) (deadline time.Time) {
	r.t.Helper()
	r.until("drain of "+s.name, func() error {
		page, err := r.drains()
		if err != nil {
			return err
		}
		for _, l := range page.Leaving {
			if l.Endpoint == s.endpoint() && l.Connections > 0 {
				deadline = l.Deadline
				return nil
			}
		}
		return fmt.Errorf("it is not leaving: %+v", page)
	})
	return deadline
}
