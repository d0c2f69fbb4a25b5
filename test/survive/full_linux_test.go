package survive

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/testkit/pulse"
)

const conntrackMax = "/proc/sys/net/netfilter/nf_conntrack_max"

// TestTablesThatAreFull lets the kernel track hardly more connections than are held, which is how a
// flood looks: those that are held go on, mooring-proxy goes on and tells, changes are made, and new
// connections are made again as soon as there is room.
func TestTablesThatAreFull(t *testing.T) {
	b := newBed(t)
	limit, err := os.ReadFile(conntrackMax)
	if err != nil {
		t.Skip("the kernel's limit of connections is not here to be set:", err)
	}
	setLimit := func(value string) {
		if err := os.WriteFile(conntrackMax, []byte(strings.TrimSpace(value)), 0o644); err != nil {
			t.Skip("the kernel's limit of connections is not ours to set:", err)
		}
	}
	b.args = append(b.args, "--source=manifests:"+b.file("objects.yaml"))
	servers := []*server{startServer(t, b.node, "web-0"), startServer(t, b.network.Nodes[1], "web-1")}
	b.write(web(ready(servers...)))
	b.start()
	b.until("the start", b.healthy)
	lines := hold(t, 30, b.origins()...)
	t.Cleanup(func() { setLimit(string(limit)) })
	entries := b.number("mooring_conntrack_entries")
	setLimit(strconv.Itoa(entries + 10))

	refused := 0
	for began := time.Now(); time.Since(began) < 5*time.Second && refused == 0; {
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if conn, err := b.client.Dial(ctx, "tcp4", b.origins()[1].target); err != nil {
				refused++
			} else {
				t.Cleanup(func() { conn.Close() })
			}
			cancel()
		}
	}
	if refused == 0 {
		t.Error("the table was never full")
	}
	b.write(web(ready(servers...)), object{"extra", extraAddress(1), 0, ready(servers[0])})
	// Whoever asks mooring-proxy makes a new connection, too: the kernel is looked at.
	b.until("a change while the table is full", func() error {
		servers, _, err := b.node.Exec(t.Context(), "ipvsadm", "-Sn")
		if err == nil && !strings.Contains(servers, extraAddress(1)) {
			err = fmt.Errorf("the kernel has\n%s", servers)
		}
		return err
	})
	setLimit(string(limit))
	b.until("an answer with room in the table", b.healthy)
	if dropped := b.number("mooring_conntrack_dropped"); dropped == 0 {
		t.Error("mooring_conntrack_dropped does not tell")
	}
	stream := startStream(t, 30, 2, b.origins()...)
	time.Sleep(3 * time.Second)
	stream.finish().check(t, pulse.Start(t))
	lines.check(t)
	b.end(syscall.SIGTERM)
}

// number gives the value of a metric that is a whole number.
func (b *bed) number(name string) int {
	b.t.Helper()
	text := b.metric(name)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		b.t.Fatalf("metric %s: %q", name, text)
	}
	return int(value)
}
