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
	b.until("a change while the table is full", func() error {
		if err := b.healthy(); err != nil {
			return err
		}
		if owned := b.number(`mooring_objects{kind="owned"}`); owned != 3 {
			return fmt.Errorf("%d virtual servers", owned)
		}
		return nil
	})
	if dropped := b.number("mooring_conntrack_dropped"); dropped == 0 {
		t.Error("mooring_conntrack_dropped does not tell")
	}
	setLimit(string(limit))
	stream := startStream(t, 30, 2, b.origins()...)
	time.Sleep(3 * time.Second)
	stream.finish().check(t, startPulse(t))
	lines.check(t)
	b.end(syscall.SIGTERM)
}
