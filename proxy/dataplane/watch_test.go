package dataplane_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestWatchHearsWhatOthersDoAndNotWhatWeDo(t *testing.T) {
	kernel := ready(t)
	apply(t, kernel, some())
	watch, err := kernel.OpenWatch()
	if err != nil {
		t.Fatal(err)
	}
	signs, ended := make(chan string, 100), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- watch.Run(ctx, func(sign string) { signs <- sign }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	// The first sign tells that the watch has joined its groups.
	for joined := false; !joined; {
		shell(t, "nft add counter inet mooring probe && nft delete counter inet mooring probe && ip route add local default dev lo table 20046 metric 7 && ip route del local default dev lo table 20046 metric 7")
		seen := map[string]bool{}
		for timeout := time.After(time.Second); len(seen) < 2 && timeout != nil; {
			select {
			case sign := <-signs:
				seen[sign] = true
			case <-timeout:
				timeout = nil
			}
		}
		joined = len(seen) == 2
	}
	drain(signs)

	for _, c := range []struct {
		name, command, want string
		lacking             bool
	}{
		{"our table deleted", "nft delete table inet mooring", dataplane.SignTable, true},
		{"elements flushed", "nft flush set inet mooring divert-v4", dataplane.SignTable, false},
		{"a chain emptied", "nft flush chain inet mooring prerouting", dataplane.SignTable, false},
		{"the rule deleted", "ip rule del fwmark 0x1000/0x1000 lookup 20046", dataplane.SignRoute, true},
		{"the IPv6 rule deleted", "ip -6 rule del fwmark 0x1000/0x1000 lookup 20046", dataplane.SignRoute, true},
		{"the route deleted", "ip route del local default dev lo table 20046", dataplane.SignRoute, true},
	} {
		// Not in a t.Run: the namespace is that of this goroutine's thread.
		shell(t, c.command)
		select {
		case sign := <-signs:
			if sign != c.want {
				t.Errorf("%s: sign %q, want %q", c.name, sign, c.want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: no sign", c.name)
		}
		if lacking, err := kernel.Lacking(t.Context()); err != nil || (len(lacking) > 0) != c.lacking {
			t.Errorf("%s: lacking: %q, %v", c.name, lacking, err)
		}
		if err := kernel.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		apply(t, kernel, some())
		if lacking, err := kernel.Lacking(t.Context()); err != nil || len(lacking) != 0 {
			t.Errorf("%s: lacking after Setup: %q, %v", c.name, lacking, err)
		}
		drain(signs)
	}

	// What we do, and what others do elsewhere, is no sign.
	apply(t, kernel, plan.Plan{})
	apply(t, kernel, some())
	shell(t, "nft add table inet other && nft add set inet other s '{ type ipv4_addr; }' && nft delete table inet other")
	shell(t, "ip rule add fwmark 7 lookup 700 && ip rule del fwmark 7 lookup 700")
	shell(t, "nft add counter inet mooring last") // whose sign comes after all others
	if sign := <-signs; sign != dataplane.SignTable {
		t.Errorf("sign %q", sign)
	}
	select {
	case sign := <-signs:
		t.Errorf("another sign %q", sign)
	default:
	}
}

// TestWatchTellsWhatItHasMissed has the kernel announce more than a socket's queue holds (ENOBUFS).
func TestWatchTellsWhatItHasMissed(t *testing.T) {
	kernel := ready(t)
	watch, err := kernel.OpenWatch()
	if err != nil {
		t.Fatal(err)
	}
	busy, goOn, missed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var first, told sync.Once
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- watch.Run(ctx, func(sign string) {
			first.Do(func() { close(busy); <-goOn })
			if sign == dataplane.SignMissed {
				told.Do(func() { close(missed) })
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for heard := false; !heard; { // until the watch has joined its groups
		shell(t, "nft add counter inet mooring probe && nft delete counter inet mooring probe")
		select {
		case <-busy:
			heard = true
		case <-time.After(time.Second):
		}
	}
	var many strings.Builder
	many.WriteString("add table inet other\nadd set inet other s { type mark; }\n")
	for i := range 20000 {
		fmt.Fprintf(&many, "add element inet other s { %d }\n", i)
	}
	nft := exec.CommandContext(t.Context(), "nft", "-f", "-")
	nft.Stdin = strings.NewReader(many.String())
	if output, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, output)
	}
	close(goOn)
	select {
	case <-missed:
	case <-time.After(time.Minute):
		t.Error("it does not tell")
	}
}

// drain takes the signs that have come, with those on their way in the next moment.
func drain(signs <-chan string) {
	for {
		select {
		case <-signs:
		case <-time.After(200 * time.Millisecond):
			return
		}
	}
}

func shell(t *testing.T, command string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, strings.TrimSpace(string(output)))
	}
}
