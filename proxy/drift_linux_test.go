package proxy

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ask runs mooring-proxy for an action on the node and gives what it prints and its exit status.
func (n *node) ask(action string, args ...string) (output string, status int) {
	n.t.Helper()
	command := n.command(append([]string{action}, args...)...)
	command.Stderr = n.t.Output()
	var text []byte
	var err error
	n.namespace.Do(func() { text, err = command.Output() })
	if err != nil && command.ProcessState == nil {
		n.t.Fatal(err)
	}
	return string(text), command.ProcessState.ExitCode()
}

// shell runs a command on the node and gives what it prints.
func (n *node) shell(command string) string {
	n.t.Helper()
	var text []byte
	var err error
	n.namespace.Do(func() { text, err = exec.CommandContext(n.t.Context(), "sh", "-c", command).CombinedOutput() })
	if err != nil {
		n.t.Fatalf("%s: %v: %s", command, err, text)
	}
	return string(text)
}

// kernel gives what the kernel holds of ours and of others, apart from counters.
func (n *node) kernel() string {
	return n.shell("nft list table inet mooring | sort; nft list table inet keepalived; ipvsadm -Sn | sort; ip rule show; ip -6 rule show; ip route show table 20046 2>&1; ip -6 route show table 20046 2>&1 || true")
}

func TestPlanSaysWhatWouldBeDoneAndVerifyWhetherItIs(t *testing.T) {
	n := startNode(t, objects, "--audit-period=0")
	n.want("after the start", "10256/healthz", 200, "lastUpdated")
	if text, status := n.ask("verify"); status != 0 || !strings.Contains(text, "as it should be") {
		t.Errorf("verify of what is right: status %d:\n%s", status, text)
	}
	n.shell("ipvsadm -D -t 10.96.0.10:80; ipvsadm -A -t 192.0.2.1:80; nft add table inet keepalived")
	before := n.kernel()
	text, status := n.ask("verify")
	if status != 1 || !strings.Contains(text, "add virtual-server tcp 10.96.0.10:80") || strings.Contains(text, "192.0.2.1") {
		t.Errorf("verify without a virtual server: status %d:\n%s", status, text)
	}
	if planned, status := n.ask("plan"); status != 0 || !strings.Contains(planned, "add virtual-server tcp 10.96.0.10:80") {
		t.Errorf("plan: status %d:\n%s", status, planned)
	}
	if after := n.kernel(); after != before {
		t.Errorf("plan and verify have changed the kernel from\n%s\nto\n%s", before, after)
	}
	n.stop()
	n.shell("ip rule del fwmark 0x1000/0x1000 lookup 20046; nft delete table inet mooring")
	text, status = n.ask("verify")
	for _, want := range []string{"set up: nft table inet mooring", "set up: IPv4 rule fwmark 0x1000", "add divert tcp 10.96.0.10:80"} {
		if status != 1 || !strings.Contains(text, want) {
			t.Errorf("verify of nearly nothing: status %d, no %q in:\n%s", status, want, text)
		}
	}
}

// harm is something that somebody else does to the data plane.
type harm struct{ name, command string }

// TestWhatTheKernelAnnouncesIsMended has no audit: only announcements can tell.
func TestWhatTheKernelAnnouncesIsMended(t *testing.T) {
	mends(t, "0", time.Second, []harm{
		{"our nft table is deleted", "nft delete table inet mooring"},
		{"its chains are flushed", "nft flush table inet mooring"},
		{"a set is flushed", "nft flush set inet mooring divert-v4"},
		{"our rule is deleted", "ip rule del fwmark 0x1000/0x1000 lookup 20046"},
		{"our IPv6 rule is deleted", "ip -6 rule del fwmark 0x1000/0x1000 lookup 20046"},
		{"our route is deleted", "ip route del local default dev lo table 20046"},
		{"our IPv6 route is deleted", "ip -6 route del local default dev lo table 20046"},
	})
}

func TestWhatOthersBreakInIPVSIsMendedByTheAudit(t *testing.T) {
	mends(t, "2s", 3*time.Second, []harm{
		{"IPVS loses one of our virtual servers", "ipvsadm -D -t 10.96.0.10:80"},
		{"its scheduler is another one", "ipvsadm -E -t 10.96.0.10:80 -s lc"},
		{"a real server gets another weight", "ipvsadm -e -t 10.96.0.10:80 -r 10.244.1.2:8080 -m -w 7"},
		{"it gets a real server of others", "ipvsadm -a -t 10.96.0.10:80 -r 10.244.9.9:8080 -m"},
		{"one of its real servers is deleted", "ipvsadm -d -t 10.96.0.10:80 -r 10.244.1.2:8080"},
		{"IPVS is cleared", "ipvsadm -C && ipvsadm -A -t 192.0.2.1:80 -s wrr"},
	})
}

// mends has harm done and looks for the kernel to be whole again, with what is others' untouched, and
// for a line that tells of it.
func mends(t *testing.T, period string, within time.Duration, harms []harm) {
	n := startNode(t, objects, "--audit-period="+period)
	n.want("after the start", "10256/healthz", 200, "lastUpdated")
	n.shell("ipvsadm -A -t 192.0.2.1:80 -s wrr; nft add table inet keepalived; ip rule add fwmark 7 lookup 700")
	whole := n.kernel()
	for _, h := range harms {
		before := n.told()
		n.shell(h.command)
		harmed := time.Now()
		// The line comes when all has been looked at, just before it is put right; to look at the kernel
		// from here takes longer than either.
		for n.told() == before && time.Since(harmed) < within*slowness {
			time.Sleep(pollEvery / 40)
		}
		told := time.Since(harmed)
		now := n.kernel()
		for now != whole && time.Since(harmed) < within*slowness {
			time.Sleep(pollEvery / 10)
			now = n.kernel()
		}
		t.Logf("%s: told of after %s, seen to be whole again after %s", h.name, told.Round(time.Millisecond), time.Since(harmed).Round(time.Millisecond))
		if now != whole {
			t.Fatalf("%s: not whole after %s: -before +after\n%s", h.name, time.Since(harmed), cmp.Diff(whole, now))
		}
		// The kernel's announcements of one harm may come in two parts.
		if lines := n.told() - before; lines < 1 || lines > 2 {
			t.Errorf("%s: told by %d lines", h.name, lines)
		}
	}
	n.want("after the repairs", "10249/metrics", 200, "mooring_dataplane_repairs")
}

// told gives how often the log says that something is put right.
func (n *node) told() int { return strings.Count(n.log.String(), mending) }

// mending is what the log says when something is put right.
const mending = "somebody else has changed the data plane"

// TestDriftInIPVSStaysWithoutTheAudit shows that the test above can fail.
func TestDriftInIPVSStaysWithoutTheAudit(t *testing.T) {
	n := startNode(t, objects, "--audit-period=0")
	n.want("after the start", "10256/healthz", 200, "lastUpdated")
	n.shell("ipvsadm -D -t 10.96.0.10:80")
	harmed := n.kernel()
	time.Sleep(5 * time.Second)
	if now := n.kernel(); now != harmed || n.told() != 0 {
		t.Errorf("it was mended, or told of:\n%s", cmp.Diff(harmed, now))
	}
}

// slowness is how much more time an emulated machine that shares its host may take: each look at the
// kernel starts seven programs.
const slowness = 15
