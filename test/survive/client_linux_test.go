package survive

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/testkit/pulse"
	"github.com/mooring-project/mooring/test/lab"
)

// patience is when a connection or an answer counts as failed: TCP has sent a lost packet again
// three times by then.
const patience = 10 * time.Second

// origin is where clients are, and under which address they find the Service.
type origin struct {
	name   string
	ns     *lab.Namespace
	target string
}

// visit is one short connection.
type visit struct {
	from origin
	at   time.Time
	// connect is how long it took to connect, and resent the number of packets that were sent again
	// for that.
	connect time.Duration
	resent  uint32
	server  string
	err     error
}

// call makes one short connection, and ends it before the server does: the TIME_WAIT of a server remembers
// the source port that the node gave a client, which is a random one, and a client that comes back by
// its own old port gets another that may be remembered for somebody else. The server then refuses the
// SYN, with the old connection's ACK, and after the second such SYN the client waits; nothing was lost.
func (o origin) call(ctx context.Context) visit {
	v := visit{from: o, at: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := o.ns.Dial(ctx, "tcp4", o.target)
	v.connect = time.Since(v.at)
	if err != nil {
		v.err = err
		return v
	}
	defer conn.Close()
	v.resent = resent(conn)
	conn.SetDeadline(v.at.Add(patience)) //nolint:errcheck // of a connection just made
	if _, v.err = conn.Write([]byte("q")); v.err != nil {
		return v
	}
	name, err := bufio.NewReader(conn).ReadString('\n')
	v.server, v.err = strings.TrimSuffix(name, "\n"), err
	return v
}

// resent asks the kernel how many packets of a connection were sent again so far.
func resent(conn net.Conn) (count uint32) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // of a connection just made
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			count = info.Total_retrans
		}
	})
	return count
}

// stream makes short connections from several origins until it is stopped.
type stream struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	began   time.Time
	// mu guards visits.
	mu     sync.Mutex
	visits []visit
}

// startStream makes so many connections a second in all, by so many clients for each origin; a client
// that is late does not catch up.
func startStream(t *testing.T, perSecond, clients int, origins ...origin) *stream {
	ctx, cancel := context.WithCancel(t.Context())
	s := &stream{stop: cancel, began: time.Now()}
	pause := time.Second * time.Duration(clients*len(origins)) / time.Duration(perSecond)
	for _, o := range origins {
		for range clients {
			s.running.Go(func() { s.run(ctx, o, pause) })
		}
	}
	t.Cleanup(func() { cancel(); s.running.Wait() })
	return s
}

func (s *stream) run(ctx context.Context, o origin, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v := o.call(context.WithoutCancel(ctx)) // one under way at the end is finished
		s.mu.Lock()
		s.visits = append(s.visits, v)
		s.mu.Unlock()
	}
}

// finish stops and gives all visits.
func (s *stream) finish() tally {
	s.stop()
	s.running.Wait()
	return tally{s.visits, time.Since(s.began)}
}

type tally struct {
	visits []visit
	took   time.Duration
}

// check fails the test if a connection failed, or had to send its SYN again, for which it waits a
// second. Those while the machine itself stood still do not count.
func (c tally) check(t *testing.T, pulse *pulse.Pulse) {
	t.Helper()
	var connects []time.Duration
	var failed, late, excused int
	origins := make(map[string]int)
	for _, v := range c.visits {
		connects = append(connects, v.connect)
		origins[v.from.name]++
		stood := pulse.StoodStill(v.at, v.at.Add(v.connect))
		switch {
		case v.err != nil:
			if failed++; failed <= 10 {
				t.Errorf("%s at %s to %s: %v", v.from.name, v.at.Format("15:04:05.000"), v.from.target, v.err)
			}
		case v.resent > 0 && stood:
			excused++
		case v.resent > 0:
			if late++; late <= 10 {
				t.Errorf("%s at %s: connected after %s, SYN sent again %d times", v.from.name, v.at.Format("15:04:05.000"), v.connect, v.resent)
			}
		}
	}
	slices.Sort(connects)
	if len(connects) == 0 {
		t.Error("no connection was made")
		return
	}
	t.Logf("%d connections in %s, %.0f a second, %v; %d failed, %d sent a SYN again (besides %d while the machine stood still); to connect p50 %s, p99 %s, slowest %s",
		len(connects), c.took.Round(time.Second), float64(len(connects))/c.took.Seconds(), origins, failed, late, excused,
		connects[len(connects)/2], connects[len(connects)*99/100], connects[len(connects)-1])
}

// line is a connection that is held.
type line struct {
	from origin
	// mu guards what follows.
	mu   sync.Mutex
	sent int
	err  error
	at   time.Time
}

// lines are connections on which something is said all the time.
type lines struct {
	all     []*line
	stop    context.CancelFunc
	running sync.WaitGroup
}

// pingPause is how often something is said on a line.
const pingPause = time.Second

// hold makes so many connections from the origins in turn and holds them.
func hold(t *testing.T, count int, origins ...origin) *lines {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &lines{stop: cancel}
	t.Cleanup(l.end)
	for i := range count {
		o := origins[i%len(origins)]
		dial, cancel := context.WithTimeout(ctx, patience)
		conn, err := o.ns.Dial(dial, "tcp4", o.target)
		cancel()
		if err != nil {
			t.Fatalf("line %d, %s: %v", i, o.name, err)
		}
		held := &line{from: o}
		l.all = append(l.all, held)
		l.running.Go(func() { held.talk(ctx, conn, time.Duration(i)*pingPause/time.Duration(count)) })
	}
	return l
}

// talk says something every pingPause, after a first delay. At its end it resets the connection, which
// IPVS forgets sooner than one that is closed.
func (l *line) talk(ctx context.Context, conn net.Conn, delay time.Duration) {
	conn.(*net.TCPConn).SetLinger(0) //nolint:errcheck // of a connection just made
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	answer := make([]byte, 1)
	for wait := delay; ; wait = pingPause {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		conn.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // what follows tells
		_, err := conn.Write([]byte("p"))
		if err == nil {
			_, err = io.ReadFull(conn, answer)
		}
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.sent++
		l.err, l.at = err, time.Now()
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// end ends all lines.
func (l *lines) end() {
	l.stop()
	l.running.Wait()
}

// broken gives what became of the lines that are no more, by words.
func (l *lines) broken() (list []string) {
	for i, held := range l.all {
		held.mu.Lock()
		if held.err != nil {
			list = append(list, fmt.Sprintf("line %d, %s, at %s after %d answers: %v", i, held.from.name, held.at.Format("15:04:05.000"), held.sent, held.err))
		}
		held.mu.Unlock()
	}
	return list
}

func (l *lines) check(t *testing.T) {
	t.Helper()
	said := 0
	for _, held := range l.all {
		held.mu.Lock()
		said += held.sent
		held.mu.Unlock()
	}
	broken := l.broken()
	t.Logf("%d lines were held, %d answers, %d broken", len(l.all), said, len(broken))
	if len(broken) > 0 {
		t.Errorf("broken:\n%s", strings.Join(broken[:min(len(broken), 10)], "\n"))
	}
	if said < len(l.all) {
		t.Error("less than one answer on each")
	}
}
