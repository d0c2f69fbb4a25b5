package takeover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/testkit/pulse"
	"github.com/mooring-project/mooring/test/lab"
	"github.com/mooring-project/mooring/test/peers"
)

// way is by which a client finds a Service.
type way struct {
	name    string
	from    *lab.Namespace
	network string
	target  string
	// marked tells that mooring-proxy leads new connections by a firewall mark.
	marked bool
	// ports are those that the client's sockets choose from, first and last.
	ports [2]uint16
}

// portsOf gives each way ports of its own. Two connections from one port to two addresses with one
// endpoint are one to kube-proxy's IPVS, and the older one is silent then (what mooring-proxy does
// about it: TestOnePortOfAClientToSeveralAddresses).
func portsOf(way int) [2]uint16 {
	const first, each = 32768, 800 // of those that Linux chooses from
	from := uint16(first + way*each)
	return [2]uint16{from, from + each - 1}
}

// patience is when an answer counts as lost: TCP has sent a lost packet again four times by then, also
// on a machine so busy that an answer takes seconds.
const patience = 20 * time.Second

// dial connects. A socket is made in the namespace's own network.
func (w way) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return w.from.DialBy(ctx, &net.Dialer{Control: w.choosePort}, w.network, w.target)
}

func (w way) choosePort(_, _ string, socket syscall.RawConn) error {
	var err error
	failed := socket.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(w.ports[1])<<16|int(w.ports[0]))
	})
	return errors.Join(failed, err)
}

// ask says something and gives the answer's words: who answered, and whom it saw.
func ask(conn net.Conn, lines *bufio.Reader) ([]string, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte("who\n")); err != nil {
		return nil, err
	}
	line, err := lines.ReadString('\n')
	words := strings.Fields(line)
	if err == nil && len(words) != 2 {
		err = fmt.Errorf("answer %q", line)
	}
	return words, err
}

func newReader(conn net.Conn) *bufio.Reader { return bufio.NewReader(conn) }

// line is a connection that is held, on which something is said all the time.
type line struct {
	way
	conn   net.Conn
	server string
	// by is who served when it was made.
	by peers.Subject
	// stop ends what is said, done is closed then.
	stop context.CancelFunc
	done chan struct{}
	// mu guards what follows.
	mu   sync.Mutex
	said int
	err  error
	at   time.Time
	// slowest is the longest that an answer took.
	slowest time.Duration
}

// traffic is what clients do while proxies come and go.
type traffic struct {
	t       *testing.T
	ctx     context.Context //nolint:containedctx // ends all of it
	lines   []*line
	stop    context.CancelFunc
	running sync.WaitGroup
	pulse   *pulse.Pulse
	// mu guards what follows.
	mu       sync.Mutex
	calls    int
	slowest  time.Duration
	resent   int
	failures []string
}

const (
	talkPause = 500 * time.Millisecond
	callPause = time.Second
)

// startTraffic makes new connections by every way until the test ends.
func (b *bed) startTraffic(ways []way) *traffic {
	t := b.t
	t.Helper()
	tr := &traffic{t: t, pulse: pulse.Start(t)}
	tr.ctx, tr.stop = context.WithCancel(t.Context())
	t.Cleanup(func() {
		if tr.end(); t.Failed() {
			tr.check("at the end")
		}
	})
	for i, w := range ways {
		tr.running.Go(func() { tr.call(tr.ctx, w, time.Duration(i)*callPause/time.Duration(len(ways))) })
	}
	return tr
}

// hold makes connections by some ways, with which it goes on from then on.
func (tr *traffic) hold(b *bed, by peers.Subject, ways []way) {
	tr.t.Helper()
	for i, w := range ways {
		l := b.hold(w)
		l.by, l.done = by, make(chan struct{})
		var talking context.Context
		talking, l.stop = context.WithCancel(tr.ctx)
		tr.lines = append(tr.lines, l)
		tr.running.Go(func() {
			defer close(l.done)
			l.talk(talking, time.Duration(i)*talkPause/time.Duration(len(ways)))
		})
	}
}

// hold makes a connection and says something for the first time.
func (b *bed) hold(w way) *line {
	b.t.Helper()
	conn, err := w.dial(b.t.Context())
	if err != nil {
		b.t.Fatalf("%s: %v", w.name, err)
	}
	l := &line{way: w, conn: conn}
	words, err := ask(conn, newReader(conn))
	if err != nil {
		b.t.Fatalf("%s: %v", w.name, err)
	}
	l.server = words[0]
	return l
}

func (l *line) talk(ctx context.Context, delay time.Duration) {
	lines := newReader(l.conn)
	for wait := delay; ; wait = talkPause {
		if !sleep(ctx, wait) {
			return
		}
		began := time.Now()
		words, err := ask(l.conn, lines)
		if err == nil && words[0] != l.server {
			err = fmt.Errorf("answered by %s, not %s", words[0], l.server)
		}
		l.mu.Lock()
		l.said, l.err, l.at, l.slowest = l.said+1, err, time.Now(), max(l.slowest, time.Since(began))
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// call makes a new connection again and again.
func (tr *traffic) call(ctx context.Context, w way, delay time.Duration) {
	for wait := delay; sleep(ctx, wait); wait = callPause {
		began := time.Now()
		conn, err := w.dial(context.WithoutCancel(ctx))
		took, again := time.Since(began), 0
		if err == nil {
			again = resent(conn)
			_, err = ask(conn, newReader(conn))
			conn.Close()
		}
		tr.mu.Lock()
		tr.calls++
		tr.slowest = max(tr.slowest, took)
		switch {
		case err != nil:
			tr.failures = append(tr.failures, fmt.Sprintf("%s at %s: %v", w.name, began.Format("15:04:05.000"), err))
		case again > 0 && !tr.pulse.StoodStill(began, began.Add(took)):
			tr.resent++
			tr.failures = append(tr.failures, fmt.Sprintf("%s at %s: connected after %s, SYN sent again %d times", w.name, began.Format("15:04:05.000"), took, again))
		}
		tr.mu.Unlock()
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// resent asks the kernel how many packets of a TCP connection were sent again so far.
func resent(conn net.Conn) (count int) {
	tcp, is := conn.(*net.TCPConn)
	if !is {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			count = int(info.Total_retrans)
		}
	})
	return count
}

// check fails the test if a held connection is broken or a new one failed since the last check, and
// says how much there was.
func (tr *traffic) check(when string) {
	tr.t.Helper()
	var broken []string
	said, slowest := 0, time.Duration(0)
	for _, l := range tr.lines {
		l.mu.Lock()
		said, slowest = said+l.said, max(slowest, l.slowest)
		if l.err != nil {
			broken = append(broken, fmt.Sprintf("%s, held, at %s after %d answers: %v", l.name, l.at.Format("15:04:05.000"), l.said, l.err))
			l.err = nil
		}
		l.said, l.slowest = 0, 0
		l.mu.Unlock()
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.t.Logf("%s: %d connections held, %d answers, slowest %s, %d broken; %d new ones, slowest %s, %d failed",
		when, len(tr.lines), said, slowest.Round(time.Millisecond), len(broken), tr.calls, tr.slowest.Round(time.Millisecond), len(tr.failures))
	for _, text := range slices.Concat(broken, tr.failures) {
		tr.t.Errorf("%s: %s", when, text)
	}
	if said == 0 || tr.calls == 0 {
		tr.t.Errorf("%s: no traffic", when)
	}
	tr.calls, tr.slowest, tr.failures = 0, 0, nil
}

// release takes out those connections that are held of some kind, with nothing on the way.
func (tr *traffic) release(those func(*line) bool) (released []*line) {
	var rest []*line
	for _, l := range tr.lines {
		if !those(l) {
			rest = append(rest, l)
			continue
		}
		l.stop()
		<-l.done
		released = append(released, l)
	}
	tr.lines = rest
	return released
}

// hangUp ends the connections that are held from somewhere, for good.
func (tr *traffic) hangUp(from *lab.Namespace) {
	for _, l := range tr.release(func(l *line) bool { return l.from == from }) {
		l.conn.Close()
	}
}

// end ends all traffic.
func (tr *traffic) end() {
	tr.stop()
	tr.running.Wait()
	for _, l := range tr.lines {
		l.conn.Close()
	}
}
